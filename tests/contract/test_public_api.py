"""The public names: three lists that agree, documented, and functions that stay functions."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from zoo.cli.analyze import _VERBS as ANALYSES

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("zoo", "export", "zoo.analysis")


def _for_type_checkers(package: str) -> dict[str, tuple[str, str]]:
    """Names under TYPE_CHECKING: name -> (module, its name there)."""
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text("utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If) and "TYPE" in ast.unparse(n.test))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(block.body)
    return {a.asname or a.name: (n.module or "", a.name) for n in imports for a in n.names}


def _lazy(package: str) -> dict[str, tuple[str, str]]:
    """The same from the table that `__getattr__` reads."""
    table = importlib.import_module(package)._HOME
    if package == "zoo.analysis":
        return {name: (name, function) for name, function in table.items()}
    found = {}
    for name, home in table.items():
        module, _, original = home.partition(":")
        found[name] = ("", name) if module == name else (module, original or name)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_the_lazy_table_and_the_type_checkers_block_agree(package: str) -> None:
    assert _lazy(package) == _for_type_checkers(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_all_lists_what_the_table_has_and_each_name_resolves(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) - {"__version__"} == set(module._HOME)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_of_the_api_has_every_public_name(package: str) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = set(importlib.import_module(package).__all__) - {"__version__"}
    assert {name for name in names if f"`{package}.{name}" not in page} == set()


def test_the_analyses_have_the_names_of_their_commands() -> None:
    assert set(zoo.analysis.__all__) == set(ANALYSES)


def test_importing_an_analysis_module_leaves_the_function_there() -> None:
    for name in zoo.analysis.__all__:
        module = importlib.import_module(f"zoo.analysis.{name}")
        assert callable(getattr(zoo.analysis, name))
        assert getattr(zoo.analysis, name) is not module


def test_naming_the_analyses_loads_no_torch() -> None:
    code = "import sys, zoo; zoo.analysis; dir(zoo.analysis); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
