"""Tests of a copy of the checkout, in forked processes that have everything of others imported.

For `benchmarks.mutation`: a first run says which tests enter which functions, and how long they
take; the later ones run few tests. POSIX only.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from tests import surroundings
from zoo.files.processes import run_forked

OURS = ("zoo", "export", "tests", "benchmarks")
OTHERS = ("numpy", "PIL.Image", "torch.onnx", "torch._dynamo", "timm", "onnx", "onnxscript",
          "onnxruntime")  # fmt: skip
OUTPUT = "output.txt"
Place = tuple[str, int]  # file, line


class Watcher:
    """Plugin of pytest: which functions of `sources` each test enters, fixtures included."""

    def __init__(self, place: Path, sources: list[str]) -> None:
        self._files = {str(place / source): source for source in sources}
        self._entered: dict[str, set[CodeType]] = defaultdict(set)  # by a test or a fixture
        self._now: list[set[CodeType]] = []
        self._rows: list[Any] = []
        self._failed: set[str] = set()

    def _enter(self, frame: FrameType, event: str, arg: Any) -> None:
        if frame.f_code.co_filename in self._files:
            for codes in self._now:
                codes.add(frame.f_code)

    @contextlib.contextmanager
    def _watched(self, name: str) -> Iterator[set[CodeType]]:
        self._now.append(self._entered[name])
        try:
            yield self._entered[name]
        finally:
            self._now.pop()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Any:
        with self._watched(fixturedef.argname):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        started = time.monotonic()
        sys.settrace(self._enter)
        threading.settrace(self._enter)
        try:
            with self._watched(item.nodeid) as codes:
                return (yield)
        finally:
            sys.settrace(None)
            fixtures = (self._entered[name] for name in getattr(item, "fixturenames", ()))
            reach = [self._reach(code) for code in codes.union(*fixtures)]
            self._rows.append((item.nodeid, time.monotonic() - started, reach))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    @property
    def found(self) -> dict[str, Any]:
        """Rows of the tests that pass, and the names of the others."""
        rows = [row for row in self._rows if row[0] not in self._failed]
        return {"rows": rows, "failed": sorted(self._failed)}

    def _reach(self, code: CodeType) -> tuple[str, int, int]:
        """File, first and last line of a function; no line of a module."""
        file, first = self._files[code.co_filename], code.co_firstlineno
        if code.co_name == "<module>":
            return file, 0, 0
        return file, first, max(line for *_, line in code.co_lines() if line)


class _Only:
    """Plugin of pytest: run these tests alone, and say which fail."""

    def __init__(self, names: set[str]) -> None:
        self._names = names
        self.found: dict[str, Any] = {"failed": []}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.found["failed"].append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self._names]


class Tests:
    """The tests in files and folders of `place`, seen from functions of `sources`. What they write
    lies beside `place`. Watching makes a test slower; one that fails then is left out.

    Raises: RuntimeError if they cannot be run.
    """

    def __init__(self, place: Path, sources: list[str], tests: list[str]) -> None:
        self._place = place
        with tempfile.TemporaryDirectory(prefix="tests-") as home:
            surroundings.close(Path(home))  # some read their settings when they are imported
            for name in OTHERS:
                importlib.import_module(name)
        self._sure: set[str] = set()
        self.noticed = ""  # the test that failed last
        code, found = self._run(tests, Watcher(place, sources), None)
        if code not in (0, 1):
            said = (place.parent / OUTPUT).read_text("utf-8", "replace")[-2000:]
            raise RuntimeError(f"the tests fail as they are: {' '.join(tests)}\n{said}")
        self._rows = found["rows"]
        for name in found["failed"]:
            print("left out, fails as it is while it is watched:", name, flush=True)

    def outcome(self, at: Place | None) -> str:
        """ "killed", "hangs" or "survives": what the tests say that enter the function at a place;
        outside of functions those that enter the file, of a new place all.
        """
        seen = self._rows
        if at is not None:
            file, line = at
            near = [row for row in seen if any(f == file for f, *_ in row[2])]
            seen = [row for row in near if any(f == file and a <= line <= b for f, a, b in row[2])]
            seen = seen or near or self._rows
        files: dict[str, float] = defaultdict(float)
        for name, seconds, _ in seen:
            files[name.partition("::")[0]] += seconds
        limit = 30 + 2 * sum(files.values())
        plugin = _Only({row[0] for row in seen})
        code, found = self._run(sorted(files, key=lambda file: files[file]), plugin, limit)
        self.noticed = next(iter(found.get("failed", ())), "")
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise RuntimeError(f"of {len(seen)} tests none was found again in {list(files)}")
        return {0: "survives", None: "hangs"}.get(code, "killed")

    def holds(self) -> bool:
        """Whether the test that failed last passes in `place` as it is now; else it is left out."""
        name = self.noticed
        if not name or name in self._sure:
            return True
        if self._run([name.partition("::")[0]], _Only({name}), None)[0] == 0:
            self._sure.add(name)
            return True
        print("left out, fails as it is:", name, flush=True)
        self._rows = [row for row in self._rows if row[0] != name]
        return False

    def _run(
        self, tests: list[str], plugin: Any, limit: float | None
    ) -> tuple[int | None, dict[str, Any]]:
        """Exit code of pytest, None if it took more than `limit` seconds; what the plugin found."""
        report = self._place.parent / "found.json"
        report.unlink(missing_ok=True)
        code = run_forked(_test, self._place, tests, plugin, report, timeout=limit)
        return code, json.loads(report.read_text("utf-8")) if report.is_file() else {}


def _test(place: Path, tests: list[str], plugin: Any, report: Path) -> None:
    """Become a process of pytest in `place`, with none of our modules imported."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open(place.parent / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(place)
    here = Path(__file__).resolve().parents[1]
    sys.path[:] = [str(place), *(path for path in sys.path if Path(path).resolve() != here)]
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.modules["__main__"] = importlib.import_module("pytest.__main__")
    # Compiled files are the unchanged ones, which the first run leaves.
    watched = isinstance(plugin, Watcher)
    sys.dont_write_bytecode = not watched
    unwritten = {} if watched else {"PYTHONDONTWRITEBYTECODE": "1"}
    os.environ.update(PYTHONPATH=str(place), **unwritten)
    settings = [
        *(() if watched else ("-x",)),
        "-q",
        "-p",
        "no:cacheprovider",
        "--assert=plain",
        "-m",
        "not slow",
    ]
    code = pytest.main([*settings, f"--basetemp={place.parent}/made", *tests], [plugin])
    report.write_text(json.dumps(plugin.found))
    sys.exit(code)
