"""How many small errors in the code the tests notice: ``python -m benchmarks.mutation``.

One error at a time is put into a copy of the checkout: a turned comparison, another number, a call
left out. The tests of that room run until one fails. Errors are drawn at random, with a seed, until
the time or the number asked for is used up, so that rooms are compared and not counted out.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.files.json_text import to_json
from zoo.files.local import write_text
from zoo.files.processes import run_python
from zoo.files.provenance import machine, parent_commit, versions

ROOT = Path(__file__).resolve().parents[1]
FILE = "mutation.json"
# room -> (what is changed, which tests have to notice)
ROOMS = {
    "files": ("zoo/files", "tests/files tests/test_laws.py tests/hub"),
    "weights": ("zoo/weights", "tests/weights tests/factory/importing"),
    "factory": ("zoo/factory", "tests/factory tests/contract/test_records.py tests/test_laws.py"),
    "evaluation": ("zoo/evaluation", "tests/evaluation tests/test_laws.py"),
    "training": (
        "zoo/training/loop.py zoo/training/learner.py",
        "tests/training/test_learner.py tests/training/test_choices.py tests/training",
    ),
    "parity": ("export/parity", "tests/export/test_parity.py tests/export/test_verify.py "
               "tests/export/test_overwriting.py tests/export/test_int8.py "
               "tests/export/test_formats.py"),
    "graph": ("export/graph", "tests/export/test_graph_rewrites.py "
              "tests/export/test_pooling_rewrite.py tests/export/test_int8.py "
              "tests/export/test_formats.py"),
    "preprocessing": (
        "zoo/data/preprocessing.py zoo/data/image_reading.py",
        "tests/data/test_preprocessing.py tests/data/test_images.py tests/data/test_odd_images.py "
        "tests/test_laws.py",
    ),
}  # fmt: skip
_COMPARE = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_BINARY = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One error: what stands between two places of a file, and what is put there instead."""

    file: str
    line: int
    start: int
    end: int
    before: str
    after: str

    def applied(self, source: bytes) -> bytes:
        """The file with the error in it."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def mutants(file: str, source: bytes) -> Iterator[Mutant]:
    """All errors that can be put into a file, in its order. Texts, types and what an exception says
    are left alone.
    """
    offsets = [0]
    for row in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(row))
    for node in _visited(ast.parse(source)):
        if isinstance(node, ast.expr | ast.stmt):
            start = offsets[node.lineno - 1] + node.col_offset
            end = offsets[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
            before = source[start:end].decode()
            for after in _changed(node):
                yield Mutant(file, node.lineno, start, end, before, after)


def _visited(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.JoinedStr) or _is_text(node):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or isinstance(node, ast.Raise):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _visited(child)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _changed(node: ast.AST) -> Iterator[str]:
    """What may stand in the place of a node."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARE:
        ops = [_COMPARE[type(node.ops[0])](), *node.ops[1:]]
        yield f"({ast.unparse(ast.Compare(node.left, ops, node.comparators))})"
    elif isinstance(node, ast.BoolOp):
        other = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        yield f"({ast.unparse(ast.BoolOp(other, node.values))})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        changed = ast.BinOp(node.left, _BINARY[type(node.op)](), node.right)
        yield f"({ast.unparse(changed)})"
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield f"({node.value + 1!r})"
    elif isinstance(node, ast.Raise) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield "pass"


def _copy(place: Path) -> None:
    """The files of the checkout that git knows or would take."""
    names = ("git", "ls-files", "-z", "-co", "--exclude-standard")
    listed = subprocess.run(names, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)


def _passes(place: Path, tests: str, limit: float | None = None) -> bool:
    """Whether the tests of a room pass; hanging is failing."""
    command = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow"]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = run_python(
            *command, *tests.split(), home=place, cwd=place, env=env, timeout=limit,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def measure_room(place: Path, room: str, count: int, seconds: float, seed: int) -> dict[str, Any]:
    """Draw errors and run the tests. Raises: RuntimeError if they fail without any."""
    sources, tests = ROOMS[room]
    files = [f for s in sources.split() for f in sorted((place / s).rglob("*.py")) or [place / s]]
    found = [m for f in files for m in mutants(str(f.relative_to(place)), f.read_bytes())]
    random.Random(seed).shuffle(found)
    started = time.monotonic()
    if not _passes(place, tests):
        raise RuntimeError(f"the tests of {room} fail as they are: {tests}")
    limit = 3 * (time.monotonic() - started) + 60
    survivors, drawn, started = [], 0, time.monotonic()
    for mutant in found[:count]:
        if drawn and time.monotonic() - started > seconds:
            break
        path = place / mutant.file
        source = path.read_bytes()
        path.write_bytes(mutant.applied(source))
        survived = _passes(place, tests, limit)
        path.write_bytes(source)
        drawn += 1
        where = f"{mutant.file}:{mutant.line}"
        print(f"{'SURVIVES' if survived else 'killed'} {where} {mutant.after[:60]}", flush=True)
        if survived:
            survivors.append({"at": where, "before": mutant.before, "after": mutant.after})
    return {"possible": len(found), "drawn": drawn, "killed": drawn - len(survivors),
            "survivors": survivors}  # fmt: skip


def main() -> None:
    """Measure rooms and write `FILE`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__)
    parser.add_argument("rooms", nargs="*", help=f"of {', '.join(ROOMS)}; all without")
    parser.add_argument("--count", type=int, default=1000, help="errors per room at most")
    parser.add_argument("--seconds", type=float, default=420, help="per room (default: 420)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("model_cards/measured"))
    given = parser.parse_args()
    if unknown := set(given.rooms) - set(ROOMS):
        parser.error(f"no such room: {', '.join(sorted(unknown))}; there are {', '.join(ROOMS)}")
    rooms: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mutation-") as place:
        _copy(Path(place))
        for room in given.rooms or ROOMS:
            rooms[room] = measure_room(Path(place), room, given.count, given.seconds, given.seed)
    content = {
        "command": "python -m benchmarks.mutation " + " ".join(sys.argv[1:]),
        "rooms": rooms, "seed": given.seed, "versions": versions(), "machine": machine(),
        "parent_commit": parent_commit(),
    }  # fmt: skip
    write_text(given.out / FILE, to_json(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
