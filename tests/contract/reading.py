"""All our Python as syntax trees: what is imported when, and what is called."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Import(NamedTuple):
    """One absolute name, e.g. ``zoo.errors.ZooError``; `when` is "load", "call" or "types"."""

    target: str
    when: str
    relative: bool
    line: int

    def within(self, *packages: str) -> bool:
        return any(f"{self.target}.".startswith(f"{package}.") for package in packages)


class Finder(ast.NodeVisitor):
    """Collects the imports of a module and notes whether they run at load, on a call or never."""

    def __init__(self, path: str) -> None:
        self.package = path.split("/")[:-1]
        self.when = "load"
        self.found: list[Import] = []

    def _inside(self, when: str, nodes: list[ast.stmt]) -> None:
        outer, self.when = self.when, when if self.when == "load" else self.when
        for node in nodes:
            self.visit(node)
        self.when = outer

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for default in (*node.args.defaults, *node.decorator_list):
            self.visit(default)
        self._inside("call", node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_If(self, node: ast.If) -> None:
        self._inside("types" if "TYPE_CHECKING" in ast.unparse(node.test) else "load", node.body)
        self._inside("load", node.orelse)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.found.append(Import(alias.name, self.when, False, node.lineno))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self.package[: len(self.package) + 1 - node.level] if node.level else []
        for alias in node.names:
            target = ".".join([*base, *filter(None, [node.module]), alias.name])
            self.found.append(Import(target, self.when, bool(node.level), node.lineno))

    def visit_Call(self, node: ast.Call) -> None:
        name = node.args[0] if node.args else None
        if ast.unparse(node.func).endswith("import_module") and isinstance(name, ast.Constant):
            relative = name.value.startswith(".")
            target = ".".join(self.package) + name.value if relative else name.value
            self.found.append(Import(target, self.when, relative, node.lineno))
        self.generic_visit(node)


def imports_of(source: str, path: str) -> list[Import]:
    finder = Finder(path)
    finder.visit(ast.parse(source))
    return finder.found


@functools.cache
def modules() -> dict[str, str]:
    """Path from the root -> source of all our Python, tests and tools apart."""
    folders = ("zoo", "export", "examples", "benchmarks", "docs")
    paths = [*ROOT.glob("*.py"), *(path for f in folders for path in (ROOT / f).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in sorted(paths)}


def sources(*folders: str) -> Iterator[tuple[str, str]]:
    """Path and source of what lies in the folders, none of which may be empty or gone."""
    for folder in folders:
        assert any(path.startswith(folder) for path in modules()), f"no code in {folder}"
    yield from ((path, text) for path, text in modules().items() if path.startswith(folders))


def imports(*folders: str) -> Iterator[tuple[str, Import]]:
    for path, source in sources(*folders):
        yield from ((path, found) for found in imports_of(source, path))


def offenders(folders: tuple[str, ...], wrong: Callable[[str, Import], bool]) -> list[str]:
    return [
        f"{path}:{found.line} imports {found.target}"
        for path, found in imports(*folders)
        if wrong(path, found)
    ]


def calls(*folders: str) -> Iterator[tuple[str, ast.Call]]:
    for path, source in sources(*folders):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call):
                yield f"{path}:{node.lineno}", node
