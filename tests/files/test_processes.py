"""Python processes that we start, and that nothing in the working directory runs in them."""

from __future__ import annotations

import ast
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo.cli import main
from zoo.files.processes import HOME, forget_working_directory, run_forked, run_python, worker_pool

from ..contract.reading import sources

HELPER = "zoo/files/processes.py"
# names that start processes otherwise than by `subprocess` with another program's name
STARTERS = {
    "os.system", "os.popen", "os.fork", "os.posix_spawn", "os.execv", "os.execve", "os.execvp",
    "os.spawnv", "os.spawnl", "os.execl", "sys.executable", "pty.spawn", "ProcessPoolExecutor",
    "concurrent.futures.ProcessPoolExecutor", "asyncio.create_subprocess_exec",
    "asyncio.create_subprocess_shell", "runpy.run_module", "runpy.run_path",
}  # fmt: skip
PYTHON = ("python", "python3", "accelerate", "torchrun", "convattn", "ray", "pip")


def started(source: str) -> Iterator[str]:
    """What starts, or may start, a Python process."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("multiprocessing"))
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from names & STARTERS
            if str(node.module).startswith("multiprocessing"):
                yield str(node.module)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in STARTERS:
            yield ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg == "shell":
            yield "shell="
        elif isinstance(node, ast.List | ast.Tuple) and node.elts:
            first = node.elts[0]
            if isinstance(first, ast.Constant) and first.value in PYTHON and len(node.elts) > 1:
                second = node.elts[1]
                value = second.value if isinstance(second, ast.Constant) else ""
                if str(value).startswith("-"):
                    yield f"{first.value} {value}"


@pytest.mark.parametrize(
    "source",
    [
        "subprocess.run([sys.executable, '-c', x])",
        "from multiprocessing import Pool",
        "def f():\n    import multiprocessing as m",
        "from concurrent.futures import ProcessPoolExecutor",
        "os.system(x)",
        "subprocess.run(x, shell=True)",
        "run(['python', '-m', 'zoo'])",
        "run(('accelerate', '--x'))",
        "runpy.run_path(x)",
    ],
)
def test_starts_of_python_are_recognised(source: str) -> None:
    assert list(started(source))


def test_only_the_helper_starts_python() -> None:
    found = {
        path: names
        for path, source in sources("")
        if path != HELPER and (names := list(started(source)))
    }
    assert not found


def test_documents_launch_the_command_and_not_a_module() -> None:
    pages = [*HOME.glob("*.md"), *(HOME / "docs").rglob("*.md")]
    lines = [line for page in pages for line in page.read_text("utf-8").splitlines()]
    assert not [line for line in lines if line.startswith(("python -m zoo", "python3 -m zoo"))]
    launched = [line for line in lines if line.startswith(("accelerate launch", "torchrun "))]
    assert len(launched) == 2
    assert all("-python convattn " in line.replace("_", "-") for line in launched)


CANARY = "open('RAN-' + __name__.partition('.')[0], 'w')\n"
SHADOWS = (
    "zoo", "export", "numpy", "torch", "timm", "onnxruntime", "PIL", "runpy", "multiprocessing",
    "pickle", "click", "json", "ctypes", "resource", "sitecustomize", "usercustomize",
)  # fmt: skip


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose modules leave a file when they are imported."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name in SHADOWS:
        (folder / f"{name}.py").write_text(CANARY)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", str(folder)]))
    return folder


def canaries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("RAN-*"))


def test_the_modules_of_a_hostile_directory_do_run_without_isolation(hostile: Path) -> None:
    subprocess.run([sys.executable, "-c", "import numpy"], check=True)
    assert "RAN-numpy" in canaries(hostile)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-m", "zoo", "info", "convit_nano", "--json"), '"convit_nano"'),
        (
            ("-c", "import zoo, export, numpy, sys; print(sys.argv[1], zoo.__version__)", "x"),
            "x 0.",
        ),
    ],
    ids=["-m", "-c"],
)
def test_a_process_of_ours_ignores_the_working_directory(
    hostile: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run_python(*arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert canaries(hostile) == []


def test_other_places_of_pythonpath_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("found = 'mine'\n")
    (tmp_path / "zoo.py").write_text(CANARY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = "import mine, zoo; print(mine.found, zoo.__version__)"
    done = run_python("-c", code, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("mine 0."), done.stderr


def test_a_worker_of_ours_ignores_the_working_directory(hostile: Path) -> None:
    with worker_pool(1, str, ()) as pool:
        assert pool.apply(os.path.realpath, (".",)) == str(hostile.resolve())
    assert canaries(hostile) == []
    assert "PYTHONSAFEPATH" not in os.environ


def test_a_process_that_a_library_starts_under_a_verb_ignores_it_too(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's compiler tries what it has built with `python -c`."""

    def verb(_: list[str]) -> None:
        subprocess.run([sys.executable, "-c", "import json, numpy, ctypes"], check=True)

    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setattr("zoo.cli._main", verb)
    main([])
    assert canaries(hostile) == []
    assert "PYTHONSAFEPATH" not in os.environ


def test_untrusted_files_are_opened_away_from_the_working_directory(
    hostile: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from zoo.cli._limited import run_limited

    (hostile / "digit.png").write_bytes((HOME / "examples" / "digit_7.png").read_bytes())
    (hostile / "model.onnx").write_bytes(b"\x08\x09")
    arguments = ["predict", "--untrusted", "model.onnx", "digit.png"]
    assert run_limited(arguments) != 0
    assert "model.onnx cannot be opened" in capfd.readouterr().err
    assert canaries(hostile) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_copy_of_this_process_runs_a_function_and_ends_with_what_it_started(
    tmp_path: Path,
) -> None:
    def work(code: int, seconds: float) -> None:
        other = subprocess.Popen(["sleep", "600"])
        (tmp_path / str(code)).write_text(str(other.pid))
        time.sleep(seconds)
        sys.exit(code)

    assert run_forked(work, 3, 0.0) == 3
    assert run_forked(work, 4, 600.0, timeout=1.0) is None
    for code in (3, 4):
        with pytest.raises(ProcessLookupError):
            _wait_for_the_end(int((tmp_path / str(code)).read_text()))


def _wait_for_the_end(pid: int) -> None:
    """Raises: ProcessLookupError when it has ended."""
    for _ in range(100):
        os.kill(pid, 0)
        with contextlib.suppress(OSError):  # Linux: what nobody waits for stays, as a zombie
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                raise ProcessLookupError
        time.sleep(0.05)


def test_the_module_forgets_the_working_directory(hostile: Path) -> None:
    """`python -m zoo` typed where ours is found in another way: numpy.py does not run."""
    (hostile / "zoo.py").unlink()
    (hostile / "export.py").unlink()
    code = "import runpy, sys; sys.argv[1:] = ['info', 'convit_nano']; "
    code += "runpy.run_module('zoo', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path.pop(0); import runpy, json; "
         f"sys.path.insert(0, ''); {code}"],
        env={**os.environ, "PYTHONPATH": str(HOME)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "RAN-click" not in canaries(hostile)


def test_only_the_working_directory_is_forgotten_and_not_where_we_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for first, kept in (("", 1), (str(tmp_path), 1), ("/elsewhere", 2)):
        monkeypatch.setattr(sys, "path", [first, "/more"])
        forget_working_directory()
        assert sys.path == [first, "/more"][-kept:]
    monkeypatch.setattr(sys, "path", [])
    forget_working_directory()
    assert sys.path == []
    monkeypatch.chdir(HOME)
    monkeypatch.setattr(sys, "path", ["", "/more"])
    forget_working_directory()
    assert sys.path == ["", "/more"]


def test_what_is_neither_a_module_nor_code_is_refused() -> None:
    with pytest.raises(ValueError, match="expected -m MODULE or -c CODE"):
        run_python("script.py")
