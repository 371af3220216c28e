"""What the test suite costs and notices, as tables for docs/testing.md.

``python -m benchmarks.suite --quick build/quick.xml --slow build/slow.xml`` keeps the times that
pytest wrote with ``--junitxml`` as seconds per folder and file; parts of the page come from there
and from `benchmarks.mutation`, and `tests/groups.py` begins with the dearest files.
"""

from __future__ import annotations

import argparse
import json
import os
import textwrap
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zoo.files.json_text import to_json
from zoo.files.local import write_text
from zoo.files.provenance import machine, parent_commit, versions

from . import mutation

MEASURED = Path(__file__).resolve().parents[1] / "model_cards" / "measured"
FILE = "test_times.json"


def _cases(reports: Iterable[str]) -> Iterator[tuple[list[str], float]]:
    """(tests, export, cards, test_usage) and seconds of every test, from JUnit XML."""
    for report in reports:
        for case in ET.fromstring(report).iter("testcase"):
            yield case.attrib["classname"].split("."), float(case.attrib["time"])


def by_folder(*reports: str) -> dict[str, dict[str, float]]:
    """Folder of tests -> number and seconds of its tests, fixtures included."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"tests": 0, "seconds": 0.0})
    for parts, seconds in _cases(reports):
        folder = "/".join(parts[:2]) if not parts[1].startswith("test_") else parts[0]
        found[folder]["tests"] += 1
        found[folder]["seconds"] += seconds
    return {k: {"tests": v["tests"], "seconds": round(v["seconds"], 1)} for k, v in found.items()}


def by_file(*reports: str) -> dict[str, float]:
    """File of tests -> seconds of its tests, fixtures included."""
    found: dict[str, float] = defaultdict(float)
    for parts, seconds in _cases(reports):
        found["/".join(parts) + ".py"] += seconds
    return {file: round(seconds, 1) for file, seconds in sorted(found.items())}


def _read(file: str, folder: Path) -> dict[str, Any] | None:
    path = folder / file
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def times(folder: Path = MEASURED) -> str:
    """Folder, tests and seconds of all processes in both suites, the dearest first."""
    found = _read(FILE, folder)
    if found is None:
        return "Not measured yet on this version."
    none = {"tests": 0, "seconds": 0.0}
    quick, slow = found["folders"], found["slow"]
    rows = {name: (quick.get(name, none), slow.get(name, none)) for name in {*quick, *slow}}
    lines = ["| folder | quick tests | seconds | slow tests | seconds |", "|---|---|---|---|---|"]
    for name in sorted(rows, key=lambda name: (-sum(r["seconds"] for r in rows[name]), name)):
        lines.append(_line(f"`{name}`", rows[name]))
    both = [{k: sum(row[k] for row in part.values()) for k in none} for part in (quick, slow)]
    return "\n".join([*lines, _line("all", both)])


def _line(name: str, parts: Iterable[dict[str, float]]) -> str:
    return f"| {name} | " + " | ".join(f"{p['tests']} | {p['seconds']:.1f}" for p in parts) + " |"


def scores(folder: Path = MEASURED) -> str:
    """Room, errors that are possible, drawn, noticed and not; what is known of the last ones."""
    found = _read(mutation.FILE, folder)
    if found is None:
        return "Not measured yet on this version."
    head = ("room", "possible", "drawn", "noticed", "of these hanging", "changes nothing", "missed")
    lines, about = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"], []
    for room in mutation.ROOMS:
        row = found["rooms"].get(room)
        if row is None:
            lines.append(f"| {room} | | not measured" + " |" * 5)
            continue
        missed = [f"`{s['at']}`" for s in row["survivors"] if not s.get("reason")]
        about += [s for s in row["survivors"] if s.get("reason")]
        counts = (row["possible"], row["drawn"], row["killed"], row["hanging"],
                  len(row["survivors"]) - len(missed), ", ".join(missed) or "none")  # fmt: skip
        lines.append(f"| {room} | " + " | ".join(map(str, counts)) + " |")
    reasons = [f"- `{s['at']}`, `{_line_of(s['before'])}`: {s['reason']}." for s in about]
    return "\n".join([*lines, *(["", "What changes nothing:", "", *reasons] if reasons else [])])


def _line_of(code: str) -> str:
    return textwrap.shorten(code, 60, placeholder=" ...")


PARTS = {"times": times, "mutation": scores}


def main() -> None:
    """Write `FILE` from reports of pytest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    what = "what pytest --junitxml wrote"
    for suite in ("--quick", "--slow"):
        parser.add_argument(suite, type=Path, nargs="+", required=True, help=what)
    parser.add_argument("--out", type=Path, default=MEASURED)
    given = parser.parse_args()
    quick, slow = ([p.read_text("utf-8") for p in paths] for paths in (given.quick, given.slow))
    content = {
        "command": "make test-times",
        "folders": by_folder(*quick), "slow": by_folder(*slow),
        "files": {"quick": by_file(*quick), "slow": by_file(*slow)},
        "load": os.getloadavg()[0], "versions": versions(), "machine": machine(),
        "parent_commit": parent_commit(),
    }  # fmt: skip
    write_text(given.out / FILE, to_json(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
