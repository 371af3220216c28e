"""What of the promises F1 to F13 holds here: the tests that hold each, run, and what they counted.

    python -m benchmarks.reliability --out model_cards/measured/reliability.json [--only F3,F4]

With --only the other figures of the file stay. Only a CPU is used; what needs a GPU is not run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.files.json_text import to_json
from zoo.files.local import sha256_file, write_text
from zoo.files.processes import run_python
from zoo.files.provenance import machine, parent_commit, versions

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "model_cards" / "measured" / "reliability.json"
COMMAND = "python -m benchmarks.reliability --out model_cards/measured/reliability.json"


@dataclass(frozen=True)
class Figure:
    """A promise, and the tests that hold it.

    Args:
        promise: one line for docs/reliability.md.
        tests: files or ids below tests/, and expressions after " -k ".
    """

    promise: str
    tests: tuple[str, ...]


FIGURES = {
    "F1": Figure(
        "Bad files, names and servers are refused with a typed error; nothing of them runs",
        (
            "factory/importing/test_import_refusals.py",
            "factory/importing/test_import_code.py -k not(dropped_and_listed)",
            "weights/test_weights.py",
            "files/test_names.py",
            "files/test_memory_of_bad_files.py",
            "data/test_odd_images.py -k not(damaged_files)",
            "export/test_runtime.py",
            "export/test_cost.py",
            "hub/test_hub_faults.py",
        ),
    ),
    "F2": Figure(
        "Harmless objects beside the weights: imported, tensors equal to the bit",
        ("factory/importing/test_import_code.py -k dropped_and_listed",),
    ),
    "F3": Figure(
        "Damaged bytes: no crash, no hang over 5 s, no error without a type",
        (
            "files/test_byte_fuzz.py -k test_damaged_bytes",
            "data/test_odd_images.py -k damaged_files and 3000",
        ),
    ),
    "F4": Figure(
        "SIGKILL before every file operation: old or new whole, nothing left after the next run",
        ("files/test_kills.py",),
    ),
    "F5": Figure(
        "A full disk at 20 sizes: a typed error, nothing left, the old one whole",
        ("files/test_full_disk.py", "export/test_export.py -k disk or limit_is_a_typed"),
    ),
    "F6": Figure(
        "Many processes on a cold cache: one transfer, one digest",
        ("hub/test_hub_load.py -k many_processes",),
    ),
    "F7": Figure(
        "Flipped bits and swapped layers: all found before use",
        (
            "files/test_flips.py",
            "export/test_verify.py -k flipped",
            "weights/test_weights.py -k bit",
        ),
    ),
    "F8": Figure("SHA-256 of a file, as a share of hashlib's speed (0.9 or more)", ()),
    "F9": Figure(
        "float32 on CPU: at most 4 x eager's own error, for every family",
        ("export/test_export.py -k test_every_family_exports_to_onnx", "export/test_parity.py"),
    ),
    "F10": Figure(
        "The same input gives the same answer: threads, graph levels, batches",
        ("export/test_runtime.py -k threads or levels",),
    ),
    "F11": Figure(
        "Offline nothing is asked; no pickle is read and no weights repository runs code",
        (
            "hub/test_hub_load.py -k offline",
            "hub/test_hub_download.py -k offline",
            "contract/test_layering.py -k pickles or code",
        ),
    ),
    "F12": Figure(
        "Messages: at most 300 characters, no secrets, no paths of the runtime",
        (
            "files/test_addresses.py",
            "factory/importing/test_import_refusals.py",
            "export/test_runtime.py -k paths_of_the_runtime",
            "export/test_cost.py -k terminal",
        ),
    ),
    "F13": Figure(
        "Two exports of one model: the same bytes",
        ("export/test_export.py -k byte_identical", "export/test_formats.py -k byte_identical"),
    ),
}


def measure(name: str) -> dict[str, Any]:
    """Run the tests of a figure: outcomes, seconds, and the sums of what the tests counted."""
    figure, found, failed = FIGURES[name], Counter[str](), []
    started = time.monotonic()
    for chosen in figure.tests:
        for case in _run(chosen):
            outcome = next((c.tag for c in case if c.tag in ("failure", "error", "skipped")), "")
            found[{"": "passed", "skipped": "skipped"}.get(outcome, "failed")] += 1
            if outcome in ("failure", "error"):
                failed.append(f"{case.get('classname')}::{case.get('name')}")
            for kept in case.iter("property"):
                found[f"count {kept.get('name')}"] += int(kept.get("value", "0"))
    if name == "F8":
        found["passed"] += 1
    counts = {k.removeprefix("count "): n for k, n in found.items() if k.startswith("count ")}
    outcomes = {key: found[key] for key in ("passed", "failed", "skipped")}
    return {
        "promise": figure.promise,
        "tests": list(figure.tests),
        **outcomes,
        "failures": failed,
        "counted": {**counts, **(hash_speed() if name == "F8" else {})},
        "seconds": round(time.monotonic() - started, 1),
    }


def _run(chosen: str) -> list[ElementTree.Element]:
    """The test cases of one pytest run. Raises: RuntimeError if none was found."""
    path, _, expression = chosen.partition(" -k ")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = [
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "junit_family=xunit1",
            f"--junitxml={report}",
        ]
        options += ["-k", expression] if expression else []
        done = run_python(
            "-m", "pytest", f"tests/{path}", *options, cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{chosen}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return list(ElementTree.parse(report).iter("testcase"))


def hash_speed(size: int = 256 << 20, rounds: int = 5) -> dict[str, float]:
    """Best speeds of `sha256_file` and of hashlib on bytes in memory, and their ratio."""
    data = os.urandom(1 << 20) * (size >> 20)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        ours, theirs = [], []
        for _ in range(rounds):
            started = time.perf_counter()
            sha256_file(path)
            between = time.perf_counter()
            hashlib.sha256(data)
            ours.append(between - started)
            theirs.append(time.perf_counter() - between)
    ratio = min(theirs) / min(ours)
    return {
        "file_mb_per_s": round(size / 1e6 / min(ours)),
        "hashlib_mb_per_s": round(size / 1e6 / min(theirs)),
        "ratio": round(ratio, 3),
    }


def table(content: dict[str, Any]) -> str:
    """The figures as a Markdown list."""
    lines = []
    for name, row in content["figures"].items():
        skipped = f", {row['skipped']} skipped" if row["skipped"] else ""
        failed = f", **{row['failed']} fail**" if row["failed"] else ""
        counted = "".join(f"; {key} {value:,}" for key, value in row["counted"].items())
        lines.append(
            f"- **{name}** {row['promise']}: {row['passed']} tests pass{failed}{skipped}{counted}; "
            f"{row['seconds']:,.0f} s"
        )
    return "\n".join(lines)


def part() -> str:
    """The list of docs/reliability.md, and which figures were not measured."""
    if not OUT.is_file():
        return "Not measured in this version."
    content = json.loads(OUT.read_text("utf-8"))
    lacking = [name for name in FIGURES if name not in content["figures"]]
    note = f"\n\nNot measured in this version: {', '.join(lacking)}." if lacking else ""
    return table(content) + note


def main() -> None:
    """Measure, write, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", default=",".join(FIGURES), help="figures, e.g. F3,F4")
    options = parser.parse_args()
    kept = json.loads(options.out.read_text("utf-8"))["figures"] if options.out.is_file() else {}
    for name in options.only.split(","):
        kept[name] = measure(name)
        content = {
            "command": COMMAND,
            "figures": {key: kept[key] for key in FIGURES if key in kept},
            "versions": versions(),
            "machine": machine(),
            "parent_commit": parent_commit(),
        }
        write_text(options.out, to_json(content, indent=1) + "\n")
    print(table(content))


if __name__ == "__main__":
    main()
