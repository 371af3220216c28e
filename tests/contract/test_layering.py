"""Who may import whom, and what code must not contain: read from the syntax trees."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import export
import zoo

from .reading import ROOT, Import, calls, imports_of, modules, offenders

OPTIONAL = ("onnx", "onnxruntime", "onnxscript", "sklearn", "accelerate", "tensorboard", "timm")
OPTIONAL += ("torchvision", "torchmetrics", "matplotlib")
UNSAFE = ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
TORCH_FREE = ("errors", "files", "catalog", "cli")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch", ("torch", "load", False)),
        ("from zoo.errors import ZooError", ("zoo.errors.ZooError", "load", False)),
        ("from .errors import ZooError", ("zoo.cli.errors.ZooError", "load", True)),
        ("from .. import registry", ("zoo.registry", "load", True)),
        ("def f():\n    import export", ("export", "call", False)),
        ("class A:\n    def f(self):\n        import export", ("export", "call", False)),
        ("class A:\n    import export", ("export", "load", False)),
        ("if TYPE_CHECKING:\n    import torch", ("torch", "types", False)),
        ("if not torch:\n    pass\nelse:\n    import torch", ("torch", "load", False)),
        ("try:\n    import torch\nexcept ImportError:\n    pass", ("torch", "load", False)),
        ("x = importlib.import_module('.list', __package__)", ("zoo.cli.list", "load", True)),
        ("def f(x=import_module('torch')):\n    pass", ("torch", "load", False)),
    ],
)
def test_imports_are_found(source: str, expected: tuple[str, str, bool]) -> None:
    assert [found[:3] for found in imports_of(source, "zoo/cli/verbs.py")] == [expected]


def test_all_code_is_read() -> None:
    assert {
        "zoo/catalog/registry.py",
        "zoo/cli/__init__.py",
        "export/__init__.py",
    } <= modules().keys()
    assert not any("venv" in path for path in modules())


@pytest.mark.parametrize("package", ["zoo", "export"])
def test_packages_import_themselves_relatively(package: str) -> None:
    assert not offenders(
        (f"{package}/",), lambda _, found: found.within(package) and not found.relative
    )


# Who may import whom: each room may import what stands before it. Rooms of one tuple are siblings
# that do not meet.
ROOMS = (
    ("zoo.errors",),
    ("zoo.layers",),
    ("zoo.models",),
    ("zoo.catalog",),
    ("zoo.files",),
    ("zoo.weights", "zoo.data"),
    ("zoo.factory",),
    ("zoo.evaluation",),
    ("zoo.analysis",),
    ("zoo.training", "export"),
    ("zoo.cli",),
    ("zoo.__main__",),
)
EXPORT_ROOMS = (
    ("export.spec",),
    ("export.graph",),
    ("export.formats",),
    ("export.runtime",),
    ("export.parity",),
    ("export.cards", "export.speed"),
    ("export.single", "export.writer"),
    ("export.directory",),
    ("export.publishing",),
)


def _position(target: str, rooms: tuple[tuple[str, ...], ...]) -> tuple[int, str] | None:
    """(place in the order, room) of a module, or None where it is in no room."""
    for place, level in enumerate(rooms):
        for room in level:
            if f"{target}.".startswith(f"{room}."):
                return place, room
    return None


@pytest.mark.parametrize("rooms", [ROOMS, EXPORT_ROOMS], ids=["house", "export"])
def test_rooms_import_only_what_stands_before_them(
    rooms: tuple[tuple[str, ...], ...],
) -> None:
    wrong = []
    for path, source in modules().items():
        importer = _position(path.removesuffix(".py").replace("/", "."), rooms)
        for found in imports_of(source, path) if importer else ():
            target = _position(found.target, rooms)
            if target and target[1] != importer[1] and target[0] >= importer[0]:
                wrong.append(f"{path}:{found.line} imports {found.target}")
    assert not wrong


def test_models_are_reached_by_name_only() -> None:
    """The factory finds classes by name; analyses see what models have in common."""
    outside = tuple(
        path
        for path in modules()
        if path.startswith(("zoo/", "export/")) and not path.startswith("zoo/models/")
    )
    assert not offenders(
        outside,
        lambda _, found: (
            found.within("zoo.models") and not found.target.startswith("zoo.models._views")
        ),
    )


def test_optional_and_heavy_packages_are_imported_where_they_are_used() -> None:
    assert not offenders(
        ("zoo/", "export/"),
        lambda path, found: found.when == "load" and found.within(*OPTIONAL),
    )


def _module_path(target: str) -> str | None:
    """The file that importing ``zoo.a.b`` or ``zoo.a.NAME`` runs."""
    parts = target.split(".")
    for count in range(len(parts), 0, -1):
        stem = "/".join(parts[:count])
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if path in modules():
                return path
    return None


def _loaded_by(path: str) -> Iterator[tuple[str, Import]]:
    """All imports that run when a file of zoo is loaded, through zoo's other files too."""
    queue, seen = [path], {path}
    while queue:
        current = queue.pop()
        for found in imports_of(modules()[current], current):
            if found.when != "load":
                continue
            yield current, found
            following = _module_path(found.target) if found.within("zoo") else None
            if following is not None and following not in seen:
                seen.add(following)
                queue.append(following)


@pytest.mark.parametrize("part", TORCH_FREE)
def test_loading_the_torch_free_part_never_loads_torch(part: str) -> None:
    paths = [p for p in modules() if p == f"zoo/{part}.py" or p.startswith(f"zoo/{part}/")]
    heavy = ("torch", "safetensors.torch", *OPTIONAL)
    assert paths
    assert not [
        f"{path} loads {where}:{found.line}, which imports {found.target}"
        for path in ["zoo/__init__.py", *paths]
        for where, found in _loaded_by(path)
        if found.within(*heavy)
    ]


def test_hubconf_loads_zoo_only() -> None:
    standard = (*sys.stdlib_module_names, "zoo")
    assert not offenders(("hubconf.py",), lambda _, found: not found.within(*standard))


def test_pickles_are_never_read() -> None:
    assert not offenders(("",), lambda _, found: found.within(*UNSAFE))


def _unsafe_load(call: ast.Call) -> bool:
    keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
    if ast.unparse(call.func) == "torch.load":
        return True
    return keywords.get("allow_pickle", "False") != "False"


@pytest.mark.parametrize(
    ("source", "unsafe"),
    [
        ("torch.load(f)", True),
        ("torch.load(f, weights_only=True)", True),
        ("np.load(f, allow_pickle=True)", True),
        ("np.load(f)", False),
    ],
)
def test_unsafe_loads_are_recognised(source: str, unsafe: bool) -> None:
    call = ast.parse(source, mode="eval").body
    assert isinstance(call, ast.Call)
    assert _unsafe_load(call) == unsafe


def test_files_are_never_loaded_as_code() -> None:
    assert not [where for where, call in calls("") if _unsafe_load(call)]


def test_nothing_prints_but_the_command() -> None:
    assert not [
        where
        for where, call in calls("zoo/", "export/")
        if ast.unparse(call.func) == "print" and not where.startswith("zoo/cli/")
    ]


def test_no_file_is_called_like_a_dependency_or_a_standard_module() -> None:
    taken = {*sys.stdlib_module_names, *OPTIONAL, "torch", "numpy", "einops", "PIL", "click"}
    taken |= {"rich", "safetensors", "huggingface_hub"}
    assert not [path for path in modules() if Path(path).stem in taken - {"__main__"}]


@pytest.mark.parametrize("package", [zoo, export], ids=["zoo", "export"])
def test_no_public_name_is_the_name_of_a_module(package: object) -> None:
    """It would turn into the module on second access; a name that means its module may be."""
    folder = Path(package.__file__).parent
    stems = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    names = {name for name in package.__all__ if name != "__version__"}
    assert not stems & {
        name for name in names if not isinstance(getattr(package, name), ModuleType)
    }


def test_no_file_holds_a_path_of_the_machine_that_made_it() -> None:
    forbidden = re.compile(r"(?<![\w.])/(?:work|root)/\w|/tmp[/]bash")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    found = []
    for path in files:
        data = path.read_bytes() if path.is_file() else b""
        if b"\0" not in data:
            text = data.decode("utf-8", errors="replace")
            found += [f"{path.relative_to(ROOT)}: {hit}" for hit in forbidden.findall(text)]
    assert not found
