"""Who may import whom, and what code must not contain: read from the syntax trees."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import export
import zoo

from .reading import ROOT, Import, calls, imports_of, modules, offenders

OPTIONAL = ("onnx", "onnxruntime", "onnxscript", "sklearn", "accelerate", "tensorboard", "timm")
OPTIONAL += ("torchvision", "torchmetrics", "matplotlib")
UNSAFE = ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
TORCH_FREE = ("errors", "files", "weights_records", "records", "registry", "labels", "catalog")
TORCH_FREE += ("cli",)


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
        ("x = importlib.import_module('.listing', __package__)", ("zoo.cli.listing", "load", True)),
        ("def f(x=import_module('torch')):\n    pass", ("torch", "load", False)),
    ],
)
def test_imports_are_found(source: str, expected: tuple[str, str, bool]) -> None:
    assert [found[:3] for found in imports_of(source, "zoo/cli/verbs.py")] == [expected]


def test_all_code_is_read() -> None:
    assert {"zoo/registry.py", "zoo/cli/__init__.py", "export/__init__.py"} <= modules().keys()
    assert not any("venv" in path for path in modules())


@pytest.mark.parametrize("package", ["zoo", "export"])
def test_packages_import_themselves_relatively(package: str) -> None:
    assert not offenders(
        (f"{package}/",), lambda _, found: found.within(package) and not found.relative
    )


def test_zoo_imports_export_only_inside_functions_of_the_command() -> None:
    assert not offenders(
        ("zoo/",),
        lambda path, found: (
            found.within("export") and not (path.startswith("zoo/cli/") and found.when != "load")
        ),
    )


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("errors", ()),
        ("weights_records", ("zoo.errors",)),
        ("records", ("zoo.errors", "zoo.weights_records")),
        ("registry", ("zoo.errors", "zoo.records", "zoo.catalog")),
    ],
)
def test_errors_records_and_registry_build_on_each_other_in_this_order(
    module: str, allowed: tuple[str, ...]
) -> None:
    assert not offenders(
        (f"zoo/{module}.py",),
        lambda _, found: (
            found.when == "load" and found.within("zoo") and not found.within(*allowed)
        ),
    )


def test_layers_import_layers_only() -> None:
    assert not offenders(
        ("zoo/layers/",), lambda _, found: found.within("zoo") and not found.within("zoo.layers")
    )


def test_models_import_layers_and_what_models_share_only() -> None:
    assert not offenders(
        ("zoo/models/",),
        lambda _, found: (
            found.within("zoo")
            and not found.within("zoo.layers")
            and not found.target.startswith("zoo.models._")
        ),
    )


def test_the_catalogue_imports_records_only() -> None:
    assert not offenders(
        ("zoo/catalog/",),
        lambda _, found: (
            found.within("zoo")
            and not found.within("zoo.records")
            and not found.target.startswith("zoo.catalog._")  # data that families share
        ),
    )


def test_analyses_see_no_architecture() -> None:
    hidden = ("zoo.models", "zoo.layers", "zoo.factory", "zoo.registry", "zoo.catalog")
    assert not offenders(("zoo/analysis/",), lambda _, found: found.within(*hidden))


def test_export_sees_no_architecture() -> None:
    hidden = ("zoo.models", "zoo.layers", "zoo.catalog")
    assert not offenders(("export/",), lambda _, found: found.within(*hidden))


def test_models_are_reached_by_name_only() -> None:
    outside = tuple(
        path for path in modules() if path.startswith("zoo/") and "/models/" not in path
    )
    assert not offenders(outside, lambda _, found: found.within("zoo.models"))


def test_matplotlib_is_imported_by_plots_only() -> None:
    assert not offenders(
        ("zoo/", "export/"),
        lambda path, found: (
            found.within("matplotlib") and not path.startswith("zoo/analysis/plots/")
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
        return keywords.get("weights_only") != "True"
    return keywords.get("allow_pickle", "False") != "False"


@pytest.mark.parametrize(
    ("source", "unsafe"),
    [
        ("torch.load(f)", True),
        ("torch.load(f, weights_only=False)", True),
        ("torch.load(f, weights_only=flag)", True),
        ("torch.load(f, weights_only=True)", False),
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
    """It would turn into the module on second access."""
    folder = Path(package.__file__).parent
    stems = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    assert not stems & {name for name in package.__all__ if name != "__version__"}


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
