"""hubconf.py through the real torch.hub, in processes of their own."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zoo

from .server import closed_network

ROOT = Path(__file__).resolve().parents[2]

# A process that has other modules of our names already, and all that hubconf declares to need.
HOSTILE = """
import importlib, json, pickle, pkgutil, sys
import zoo, export, models, utils
import torch

root, *dependencies = sys.argv[1:]
for name in dependencies:
    importlib.import_module(name)
tops = lambda: {name.partition(".")[0] for name in sys.modules}
before, path = tops(), list(sys.path)
model = torch.hub.load(root, "convit_nano", source="local", pretrained=False).eval()
alias = type(model).__module__.partition(".")[0]
package = sys.modules[alias]
for module in pkgutil.iter_modules(importlib.import_module(alias + ".models").__path__):
    importlib.import_module(f"{alias}.models.{module.name}")

with torch.no_grad():
    shape = list(model(torch.zeros(2, 3, 32, 32)).shape)
image = torch.zeros(3, 40, 50, dtype=torch.uint8)
input_shape = list(model.pretrained_cfg.transform()(image).shape)  # imports preprocessing only now
state = pickle.loads(pickle.dumps(model.state_dict()))
wide = torch.hub.load(root, "convit_nano", source="local", num_classes=3)
result = {
    "alias": alias,
    "root": str(package.__path__[0]),
    "logits": shape,
    "input": input_shape,
    "classes": wide.num_classes,
    "state": all(torch.equal(value, state[key]) for key, value in model.state_dict().items()),
    "whole": pickle.loads(pickle.dumps(model)).num_classes,
    "foreign": [sys.modules[name].MARK for name in ("zoo", "export", "models", "utils")],
    "path": sys.path == path,
}
if "convit_nano" in package.list_models(pretrained=True):
    weights = package.get_record("convit_nano").selected
    options = {"tag": weights.tag, "version": weights.version}
    trained = torch.hub.load(root, "convit_nano", source="local", pretrained=True, **options)
    cfg = trained.pretrained_cfg
    result["trained"] = [cfg.tag, cfg.version, cfg.sha256, list(cfg.labels)]
    result["recorded"] = [weights.tag, weights.version, weights.sha256]
result["timm"] = "timm" in sys.modules
result["imported"] = sorted(tops() - before - set(sys.stdlib_module_names) - {alias})
print(json.dumps(result))
"""

# Two tags of one repository in torch.hub's cache, and one whose catalogue is broken.
TWO_TAGS = """
import json, sys
import torch

def load(tag):
    repo = f"acme/convattn:{tag}"
    return torch.hub.load(repo, "convit_nano", trust_repo=True, verbose=False, skip_validation=True)

def package(model):
    return type(model).__module__.partition(".")[0]

models = [load(tag) for tag in ("v1", "v2", "v1")]
for model in models:
    model.pretrained_cfg.transform()  # imports preprocessing only now
loaded = set(sys.modules)
try:
    load("broken")
    error = ""
except SyntaxError as caught:
    error = type(caught).__name__
result = {
    "versions": [sys.modules[package(m)].__version__ for m in models],
    "files": [sys.modules[type(m).__module__].__file__ for m in models],
    "lazy": [sys.modules[package(m) + ".data.preprocessing"].__file__ for m in models],
    "same": type(models[0]) is type(models[2]),
    "error": error,
    "left": [name for name in set(sys.modules) - loaded if name.startswith("_convattn")],
    "list": torch.hub.list("acme/convattn:v1", trust_repo=True, verbose=False),
    "help": torch.hub.help("acme/convattn:v1", "convit_tiny", trust_repo=True),
}
print(json.dumps(result))
"""

# Importing hubconf alone, as `torch.hub.list` does.
IMPORT = """
import importlib.util, inspect, json, sys
spec = importlib.util.spec_from_file_location("hubconf", sys.argv[1] + "/hubconf.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
heavy = ("torch", "timm", "onnx", "onnxruntime", "numpy", "PIL", "huggingface_hub", "export")
missing = [name for name in module.dependencies if importlib.util.find_spec(name) is None]
result = {
    "heavy": [name for name in heavy if name in sys.modules],
    "missing": missing,
    "signature": str(inspect.signature(module.convit_nano)),
    "docs": {n: getattr(module, n).__doc__ for n in dir(module) if n in sys.argv[2:]},
}
print(json.dumps(result))
"""


def run(script: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a script in `folder`, without network; its JSON output."""
    environment = {
        **closed_network(folder),
        "TORCH_HOME": str(folder / "torch"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("zoo", "export", "models", "utils"):
        (folder / f"{name}.py").write_text(f'MARK = "foreign {name}"\n')
    text = (ROOT / "hubconf.py").read_text()
    [dependencies] = re.findall(r"^dependencies = (.*)", text, re.MULTILINE)
    return run(HOSTILE, folder, str(ROOT), *json.loads(dependencies))


@pytest.fixture(scope="module")
def two_tags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tags")
    for tag in ("v1", "v2", "broken"):
        checkout = folder / "torch" / "hub" / f"acme_convattn_{tag}"
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "zoo", checkout / "zoo", ignore=ignore)
        shutil.copy(ROOT / "hubconf.py", checkout)
        init = checkout / "zoo" / "__init__.py"
        text = re.sub(r'__version__ = "[^"]*"', f'__version__ = "{tag}"', init.read_text("utf-8"))
        init.write_text(text, "utf-8")
    (checkout / "zoo" / "catalog" / "families" / "zzz.py").write_text("FAMILY = (\n")
    return run(TWO_TAGS, folder)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(IMPORT, tmp_path_factory.mktemp("import"), str(ROOT), *zoo.list_models())


def test_a_model_loads_beside_foreign_modules_of_our_names(hostile: dict[str, Any]) -> None:
    assert hostile["root"] == str(ROOT / "zoo")
    assert hostile["alias"].startswith("_convattn_zoo_")
    assert hostile["foreign"] == [f"foreign {n}" for n in ("zoo", "export", "models", "utils")]
    assert hostile["logits"] == [2, 10]
    assert hostile["classes"] == 3


def test_lazy_imports_work_after_load_has_returned(hostile: dict[str, Any]) -> None:
    assert hostile["input"] == [3, 32, 32]
    assert hostile["path"]


def test_models_and_state_dicts_can_be_pickled_in_the_process(hostile: dict[str, Any]) -> None:
    assert hostile["state"]
    assert hostile["whole"] == 10


def test_the_dependencies_cover_all_that_loading_imports(
    hostile: dict[str, Any], imported: dict[str, Any]
) -> None:
    assert hostile["imported"] == []
    assert not hostile["timm"]
    assert imported["missing"] == []


def test_pretrained_weights_come_by_tag_and_version(hostile: dict[str, Any]) -> None:
    *loaded, labels = hostile["trained"]
    assert loaded == hostile["recorded"]
    assert labels == [str(digit) for digit in range(10)]


def test_two_checkouts_in_one_process_run_their_own_code(two_tags: dict[str, Any]) -> None:
    assert two_tags["versions"] == ["v1", "v2", "v1"]
    for files in (two_tags["files"], two_tags["lazy"]):
        assert ["convattn_v1" in file for file in files] == [True, False, True]
    assert two_tags["same"]


def test_a_checkout_that_fails_to_load_leaves_no_modules(two_tags: dict[str, Any]) -> None:
    assert two_tags["error"] == "SyntaxError"
    assert two_tags["left"] == []


def test_torch_hub_lists_the_models_and_nothing_else(two_tags: dict[str, Any]) -> None:
    assert sorted(two_tags["list"]) == sorted(zoo.list_models())


def test_torch_hub_help_says_what_a_model_is(two_tags: dict[str, Any]) -> None:
    for part in ("gated positional", "arXiv:2103.10697", "3 x 224 x 224", "Weights:", "version"):
        assert part in two_tags["help"]
    assert 'torch.hub.load(REPO, "convit_tiny"' in two_tags["help"]


def test_every_entry_has_the_same_signature_and_a_docstring(imported: dict[str, Any]) -> None:
    assert imported["signature"].startswith("(pretrained: bool = False, *, tag:")
    assert "version:" in imported["signature"]
    assert "**overrides" in imported["signature"]
    assert set(imported["docs"]) == set(zoo.list_models())
    for name in imported["docs"]:
        assert zoo.get_record(name).family.paper in imported["docs"][name]


def test_importing_hubconf_loads_nothing_heavy(imported: dict[str, Any]) -> None:
    assert imported["heavy"] == []


def test_the_hub_entry_loads_a_directory_that_training_wrote(tiny_run: Path) -> None:
    import torch

    def load(name: str) -> Any:
        return torch.hub.load(
            str(ROOT), name, source="local", pretrained=True, directory=str(tiny_run)
        )

    expected = zoo.create_model(str(tiny_run), pretrained=True).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(load("convit_nano").eval()(x), expected(x))
    with pytest.raises(ValueError, match="holds convit_nano, not convit_tiny"):
        load("convit_tiny")


def test_a_directory_beside_a_tag_or_a_version_is_refused(tmp_path: Path) -> None:
    entry = runpy.run_path(str(ROOT / "hubconf.py"))["convit_nano"]
    for option in ("tag", "version"):
        with pytest.raises(ValueError, match="has its own weights; leave out tag and version"):
            entry(True, directory=str(tmp_path), **{option: "1.0.0"})
