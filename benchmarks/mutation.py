"""How many small errors in the code the tests notice: ``python -m benchmarks.mutation``.

One error at a time is put into a copy of the checkout: a turned comparison, another number, a call
left out. The tests of the room that enter the changed function run until one fails; a hanging test
fails. Errors are drawn at random, with a seed. What is known is written after every error, and the
next run goes on from there, as long as the sources of the room are the same.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import itertools
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.files.json_text import to_json
from zoo.files.local import write_text
from zoo.files.provenance import machine, parent_commit, versions

from .forked_tests import Place, Tests

ROOT = Path(__file__).resolve().parents[1]
FILE = "mutation.json"
# room -> (what is changed, which tests have to notice)
ROOMS = {
    "files": ("zoo/files", "tests/files tests/test_laws.py"),
    "weights": ("zoo/weights", "tests/weights tests/factory/importing"),
    "factory": ("zoo/factory", "tests/factory tests/contract/test_records.py tests/test_laws.py"),
    "evaluation": (
        "zoo/evaluation", "tests/evaluation tests/cli/test_embed.py tests/test_laws.py"
    ),
    "training": (
        "zoo/training/loop.py zoo/training/learner.py",
        "tests/training/test_learner.py tests/training/test_choices.py tests/training",
    ),
    "parity": ("export/parity", "tests/export/test_parity.py tests/export/test_verify.py "
               "tests/export/test_overwriting.py tests/export/test_int8.py "
               "tests/export/test_formats.py tests/export/test_per_node.py "
               "tests/export/test_parity_figure.py tests/export/test_providers.py"),
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
    column: int
    start: int
    end: int
    before: str
    after: str

    def described(self) -> dict[str, str]:
        """What tells it from the others."""
        at = f"{self.file}:{self.line}:{self.column + 1}"
        return {"at": at, "before": self.before, "after": self.after}

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
                yield Mutant(file, node.lineno, node.col_offset, start, end, before, after)


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


class Room:
    """What is known of a room, and a copy of the checkout in which more is tried.

    Args:
        known: the row of an earlier run; it counts if seed and sources are the same.
    """

    def __init__(self, place: Path, name: str, seed: int, known: dict[str, Any]) -> None:
        sources, tests = ROOMS[name]
        files = [
            f for s in sources.split() for f in sorted((place / s).rglob("*.py")) or [place / s]
        ]
        texts = {str(f.relative_to(place)): f.read_bytes() for f in files}
        self.mutants = [m for file, text in texts.items() for m in mutants(file, text)]
        random.Random(seed).shuffle(self.mutants)
        digest = hashlib.sha256(b"".join(texts.values())).hexdigest()
        new = {"seed": seed, "sources": digest, "possible": len(self.mutants), "drawn": 0,
               "killed": 0, "hanging": 0, "survivors": []}  # fmt: skip
        same = (known.get("seed"), known.get("sources")) == (seed, digest)
        self.row: dict[str, Any] = known if same else new
        self._place = place
        self._tests = functools.cache(lambda: Tests(place, list(texts), tests.split()))

    def draw(self, count: int) -> Iterator[None]:
        """Try errors until `count` of them are known. Raises: RuntimeError if the tests cannot be
        run.
        """
        for mutant in self.mutants[self.row["drawn"] : count]:
            self._try(mutant, mutant.described(), (mutant.file, mutant.line))
            self.row["drawn"] += 1
            yield

    def again(self) -> Iterator[None]:
        """Try what was not noticed and has no reason, in the end with all tests of the room."""
        for known in [row for row in self.row["survivors"] if not row.get("reason")]:
            mutant = next(m for m in self.mutants if m.described().items() <= known.items())
            self.row["survivors"].remove(known)
            self._try(mutant, known, (mutant.file, mutant.line), None)
            yield

    def _try(self, mutant: Mutant, row: dict[str, str], *places: Place | None) -> None:
        tests = self._tests()
        outcomes = (self._outcome(tests, mutant, place) for place in places)
        outcome = next((found for found in outcomes if found != "survives"), "survives")
        by = tests.noticed if outcome == "killed" else ""
        print(outcome, row["at"], repr(row["before"][:40]), repr(row["after"][:40]), by, flush=True)
        if outcome == "survives":
            self.row["survivors"].append(row)
        else:
            self.row["killed"] += 1
            self.row["hanging"] += outcome == "hangs"

    def _outcome(self, tests: Tests, mutant: Mutant, place: Place | None) -> str:
        """As `Tests.outcome`; a test that fails without the error too has noticed nothing."""
        path = self._place / mutant.file
        while True:
            unchanged = path.rename(path.with_suffix(".unchanged"))
            path.write_bytes(mutant.applied(unchanged.read_bytes()))
            outcome = tests.outcome(place)
            unchanged.replace(path)  # with its time, by which its compiled form is known
            if outcome != "killed" or tests.holds():
                return outcome


def copy_checkout(place: Path) -> None:
    """Copy the files that git knows or would take."""
    names = ("git", "ls-files", "-z", "-co", "--exclude-standard")
    listed = subprocess.run(names, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)


def _write(path: Path, rooms: Mapping[str, Any]) -> None:
    content = {
        "command": "python -m benchmarks.mutation " + " ".join(sys.argv[1:]),
        "rooms": rooms, "versions": versions(), "machine": machine(),
        "parent_commit": parent_commit(),
    }  # fmt: skip
    write_text(path, to_json(content, indent=1) + "\n")


def main() -> None:
    """Measure rooms and write `FILE`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__)
    parser.add_argument("rooms", nargs="*", help=f"of {', '.join(ROOMS)}; all without")
    parser.add_argument("--mutants", type=int, default=16, help="errors in a room (default: 16)")
    parser.add_argument("--minutes", type=float, default=60, help="for all rooms (default: 60)")
    parser.add_argument("--again", action="store_true", help="first those that were missed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("model_cards/measured"))
    given = parser.parse_args()
    if unknown := set(given.rooms) - set(ROOMS):
        parser.error(f"no such room: {', '.join(sorted(unknown))}; there are {', '.join(ROOMS)}")
    path, end = given.out / FILE, time.monotonic() + 60 * given.minutes
    known = json.loads(path.read_text("utf-8"))["rooms"] if path.is_file() else {}
    names = given.rooms or list(ROOMS)
    with tempfile.TemporaryDirectory(prefix="mutation-", ignore_cleanup_errors=True) as folder:
        place = Path(folder, "checkout")
        copy_checkout(place)
        for i, name in enumerate(names):
            share = time.monotonic() + (end - time.monotonic()) / (len(names) - i)
            room = Room(place, name, given.seed, known.get(name, {}))
            missed = room.again() if given.again else ()
            for _ in itertools.chain(missed, room.draw(given.mutants)):
                _write(path, known := {**known, name: room.row})
                if time.monotonic() > share:
                    break


if __name__ == "__main__":
    main()
