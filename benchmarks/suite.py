"""What the test suite costs and notices, as tables for docs/testing.md.

``python -m benchmarks.suite build/quick.xml`` keeps the times that pytest wrote with ``--junitxml``
as seconds per folder; parts of the page come from there and from `benchmarks.mutation`.
"""

from __future__ import annotations

import argparse
import json
import os
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import Any

from zoo.files.json_text import to_json
from zoo.files.local import write_text
from zoo.files.provenance import machine, parent_commit, versions

from . import mutation

MEASURED = Path(__file__).resolve().parents[1] / "model_cards" / "measured"
FILE = "test_times.json"


def by_folder(report: str) -> dict[str, dict[str, float]]:
    """Folder of tests -> number and seconds of its tests, fixtures included, from JUnit XML."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"tests": 0, "seconds": 0.0})
    for case in ET.fromstring(report).iter("testcase"):
        parts = case.attrib["classname"].split(".")  # tests.export.cards.test_usage
        folder = "/".join(parts[:2]) if not parts[1].startswith("test_") else parts[0]
        found[folder]["tests"] += 1
        found[folder]["seconds"] += float(case.attrib["time"])
    return {k: {"tests": v["tests"], "seconds": round(v["seconds"], 1)} for k, v in found.items()}


def _read(file: str, folder: Path) -> dict[str, Any] | None:
    path = folder / file
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def times(folder: Path = MEASURED) -> str:
    """Folder, tests and seconds of one process, the dearest first."""
    found = _read(FILE, folder)
    if found is None:
        return "Not measured yet on this version."
    rows = sorted(found["folders"].items(), key=lambda item: -item[1]["seconds"])
    lines = ["| folder | tests | seconds |", "|---|---|---|"]
    lines += [f"| `{name}` | {row['tests']} | {row['seconds']:.1f} |" for name, row in rows]
    total = sum(row["seconds"] for _, row in rows)
    lines.append(f"| all | {sum(row['tests'] for _, row in rows)} | {total:.1f} |")
    return "\n".join(lines)


def scores(folder: Path = MEASURED) -> str:
    """Room, errors that are possible, drawn and noticed."""
    found = _read(mutation.FILE, folder)
    if found is None:
        return "Not measured yet on this version."
    lines = ["| room | possible | drawn | noticed | not noticed |", "|---|---|---|---|---|"]
    for room in mutation.ROOMS:
        row = found["rooms"].get(room)
        if row is None:
            lines.append(f"| {room} | | not measured | | |")
            continue
        left = ", ".join(f"`{s['at']}`" for s in row["survivors"]) or "none"
        lines.append(f"| {room} | {row['possible']} | {row['drawn']} | {row['killed']} | {left} |")
    return "\n".join(lines)


PARTS = {"times": times, "mutation": scores}


def main() -> None:
    """Write `FILE` from a report of pytest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    parser.add_argument("report", type=Path, help="what pytest --junitxml wrote")
    parser.add_argument("--out", type=Path, default=MEASURED)
    given = parser.parse_args()
    content = {
        "command": f"python -m benchmarks.suite {given.report}",
        "folders": by_folder(given.report.read_text(encoding="utf-8")),
        "load": os.getloadavg()[0], "versions": versions(), "machine": machine(),
        "parent_commit": parent_commit(),
    }  # fmt: skip
    write_text(given.out / FILE, to_json(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
