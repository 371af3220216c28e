"""What timm users do: register our models, create them, load weights, resolve the data config.

Registration is looked at in processes of its own, because it cannot be undone.
"""

from __future__ import annotations

import ast
import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from tests.contract.helpers import FAMILIES, images, tiny
from tests.hub.server import HubServer, closed_network, running
from tests.reference.naive import on_one_thread
from zoo.costs import read_costs
from zoo.errors import ConfigError, UnknownModelError
from zoo.references import build_config
from zoo.weights import weights_bytes

timm = pytest.importorskip("timm")
one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
each_family = pytest.mark.parametrize("family", FAMILIES)
ROOT = Path(__file__).resolve().parents[1]
SCAN = str(ROOT / "examples" / "digit_3.png")


@pytest.fixture(scope="module", autouse=True)
def registered() -> ModuleType:
    import zoo.timm_registry

    return zoo.timm_registry


def fresh(script: str, *arguments: str, **environment: str) -> Any:
    """What a script prints as JSON in a new process where every warning is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        cwd=ROOT,
        env={**environment} or None,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Registration

REGISTER = """
import importlib.util, json, sys, timm
from timm.models import model_entrypoint
def entries():
    return {name: id(model_entrypoint(name)) for name in timm.list_models()}
def alias(name):
    spec = importlib.util.spec_from_file_location(
        name, "zoo/__init__.py", submodule_search_locations=["zoo"])
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    importlib.import_module(name + ".timm_registry")
before = entries()
import zoo
after_zoo = entries()
zoo.create_model("convit_nano")
after_use = entries()
import zoo.timm_registry
once = entries()
alias("_another_checkout")
importlib.reload(zoo.timm_registry)
print(json.dumps({
    "silent": before == after_zoo == after_use,
    "kept": all(once[name] == number for name, number in before.items()),
    "added": sorted(once.keys() - before.keys()),
    "idempotent": once == entries(),
    "models": zoo.list_models(),
}))
"""


@pytest.fixture(scope="module")
def registration() -> dict[str, Any]:
    return fresh(REGISTER)


def test_importing_and_using_the_zoo_registers_nothing(registration: dict[str, Any]) -> None:
    assert registration["silent"]


def test_every_model_is_registered_with_the_prefix(registration: dict[str, Any]) -> None:
    assert registration["added"] == sorted(f"zoo_{name}" for name in registration["models"])


def test_timms_own_entries_stay_as_they_were(registration: dict[str, Any]) -> None:
    assert registration["kept"]


def test_registering_again_and_under_a_hub_alias_changes_nothing(
    registration: dict[str, Any],
) -> None:
    assert registration["idempotent"]


def test_a_checkout_under_an_alias_registers_too_when_it_is_the_first() -> None:
    script = REGISTER.partition("before =")[0] + (
        'alias("_first"); import torch, zoo.timm_registry\n'
        'model = timm.create_model("zoo_convit_nano", pretrained=True)\n'
        'print(json.dumps([type(model).__module__, len(timm.list_models("zoo_*"))]))'
    )
    module, count = fresh(script)
    assert module == "_first.models.convit"
    assert count == len(zoo.list_models())


def test_a_name_that_someone_else_took_is_not_replaced() -> None:
    script = """
import json, timm
from timm.models import register_model, model_entrypoint
@register_model
def zoo_convit_nano(**kwargs): return "theirs"
try:
    import zoo.timm_registry
except Exception as error:
    print(json.dumps([type(error).__name__, str(error), model_entrypoint("zoo_convit_nano")()]))
"""
    kind, text, left = fresh(script)
    assert kind == "DuplicateNameError"
    assert "timm has a model 'zoo_convit_nano' of __main__ already; it was not replaced" in text
    assert left == "theirs"


def test_nothing_else_in_the_zoo_imports_the_registry() -> None:
    for path in (*(ROOT / "zoo").rglob("*.py"), *(ROOT / "export").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "timm_registry" not in ast.unparse(node), path


def test_timm_lists_models_weights_and_their_descriptions(registered: ModuleType) -> None:
    assert set(timm.list_models(module="timm_registry")) == {
        f"zoo_{name}" for name in zoo.list_models()
    }
    expected = {f"zoo_{name}" for name in zoo.list_models(pretrained=True, with_tags=True)}
    assert set(timm.list_pretrained("zoo_*")) == expected
    cfg = timm.models.get_pretrained_cfg("zoo_convit_nano.digits")
    assert (cfg.architecture, cfg.tag, cfg.input_size) == ("zoo_convit_nano", "digits", (3, 32, 32))
    assert cfg.num_classes == 10
    assert registered.zoo_convit_nano.__doc__.startswith("our own small ConViT")


# create_model


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(value, states[1][key]) for key, value in states[0].items()
    )


@each_family
def test_timm_creates_what_the_zoo_creates(family: str) -> None:
    name = min(zoo.list_models(family=family), key=lambda name: read_costs()[name]["params"])
    with torch.device("meta"):
        model = timm.create_model(f"zoo_{name}", num_classes=3, global_pool=None)
        ours = zoo.create_model(name, num_classes=3)
    assert type(model) is type(ours)
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in ours.state_dict().items()
    }
    assert model.pretrained_cfg == ours.pretrained_cfg
    assert model.default_cfg is model.pretrained_cfg


@pytest.mark.parametrize("name", ["zoo_convit_nano", "zoo_convit_nano.digits"])
def test_timm_loads_verified_weights(name: str) -> None:
    model = timm.create_model(name, pretrained=True)
    assert same_weights(model, zoo.create_model("convit_nano.digits", pretrained=True))
    assert model.pretrained_cfg.sha256


def test_weights_are_adapted_through_timm_too() -> None:
    model = timm.create_model("zoo_convit_nano", pretrained=True, num_classes=3, in_chans=1)
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 3)
    assert model.pretrained_cfg.name == "convit_nano.digits"


def test_a_description_that_timms_scripts_hand_back_picks_the_same_weights() -> None:
    arguments = timm.models.resolve_model_input_args("zoo_convit_nano", {}, num_classes=10)
    model = timm.create_model(**arguments, pretrained=True)
    assert model.pretrained_cfg.name == "convit_nano.digits"
    assert same_weights(model, zoo.create_model("convit_nano", pretrained=True))


def test_an_unknown_tag_and_keyword_are_typed_errors() -> None:
    with pytest.raises(UnknownModelError, match="convit_nano has no tag 'imagenet'; it has digits"):
        timm.create_model("zoo_convit_nano.imagenet", pretrained=True)
    with pytest.raises(ConfigError, match="has no argument 'num_head'; did you mean num_heads"):
        timm.create_model("zoo_convit_nano", num_head=3)


def test_rates_that_a_family_does_not_know_pass_only_if_they_do_nothing() -> None:
    assert timm.create_model("zoo_mobilenet", drop_rate=0.0, drop_path_rate=0.0, global_pool="")
    with pytest.raises(ConfigError, match="has no argument 'drop_rate'"):
        timm.create_model("zoo_mobilenet", drop_rate=0.1)


def test_features_only_works_through_timm() -> None:
    net = timm.create_model("zoo_resnet_18", features_only=True, out_indices=(2, 4))
    maps = net(torch.zeros(1, 3, 64, 96))
    assert [tuple(found.shape) for found in maps] == [(1, 128, 8, 12), (1, 512, 2, 3)]
    assert net.feature_info.channels() == [128, 512]
    assert net.feature_info.reduction() == [8, 32]


def test_timms_own_feature_wrappers_take_our_models() -> None:
    from timm.models._features import FeatureGetterNet, FeatureHookNet

    model, x = tiny("convit"), images("convit")
    expected = model.forward_intermediates(x, [0, 2], intermediates_only=True)
    getter = FeatureGetterNet(copy.deepcopy(model), out_indices=[0, 2])
    assert all(torch.equal(a, b) for a, b in zip(getter(x), expected, strict=True))
    cnn, x = tiny("resnet"), images("resnet")
    hooked = FeatureHookNet(copy.deepcopy(cnn), out_indices=(1, 3))
    expected = cnn.forward_intermediates(x, [1, 3], intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(hooked(x), expected, strict=True))


def test_a_checkpoint_path_is_loaded_by_timm(tmp_path: Path) -> None:
    model = zoo.create_model("convit_nano", pretrained=True)
    (tmp_path / "w.safetensors").write_bytes(weights_bytes(model))
    path = str(tmp_path / "w.safetensors")
    assert same_weights(timm.create_model("zoo_convit_nano", checkpoint_path=path), model)
    overlay = {"file": path}
    loaded = timm.create_model("zoo_convit_nano", pretrained=True, pretrained_cfg_overlay=overlay)
    assert same_weights(loaded, model)
    assert loaded.pretrained_cfg.tag == "custom"


@pytest.mark.parametrize("overlay", [{"url": "https://x/y.pth"}, {"num_classes": 3}], ids=str)
def test_an_overlay_that_would_be_ignored_is_refused(overlay: dict[str, Any]) -> None:
    for pretrained in (False, True):
        with pytest.raises(ConfigError, match="pretrained_cfg_overlay takes file or hf_hub_id"):
            timm.create_model(
                "zoo_convit_nano", pretrained=pretrained, pretrained_cfg_overlay=overlay
            )
    with pytest.raises(ConfigError, match="HF_HUB_CACHE says where the cache is"):
        timm.create_model("zoo_convit_nano", pretrained=True, cache_dir="/x")


@pytest.mark.parametrize("source", [{"url": "https://x/y.pth"}, {"custom_load": True}], ids=str)
def test_weights_from_other_sources_are_refused(source: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="run `convattn import` on other checkpoints"):
        timm.create_model("zoo_convit_nano", pretrained=True, pretrained_cfg=source)
    assert timm.create_model("zoo_convit_nano", pretrained_cfg=source).num_classes == 10


def test_a_model_that_timm_saved_comes_back_through_timm(tmp_path: Path) -> None:
    model = timm.create_model("zoo_convit_nano", pretrained=True, num_classes=4).eval()
    timm.models.save_for_hf(model, tmp_path / "saved", safe_serialization=True)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architecture"] == "zoo_convit_nano"
    again = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(again(x), model(x))
    assert same_weights(zoo.create_model(str(tmp_path / "saved"), pretrained=True), model)


def test_a_run_directory_loads_through_timm(tiny_run: Path) -> None:
    model = timm.create_model(f"local-dir:{tiny_run}", pretrained=True)
    assert same_weights(model, zoo.create_model(str(tiny_run), pretrained=True))
    fewer = timm.create_model(f"local-dir:{tiny_run}", pretrained=True, num_classes=2)
    assert fewer.num_classes == 2


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with running() as server:
        yield server
        assert not server.unhandled


def test_hub_repositories_of_ours_load_through_timm(hub: HubServer, tmp_path: Path) -> None:
    model = zoo.create_model("convit_nano", pretrained=True)
    weights = weights_bytes(model)
    config = json.dumps(build_config(model)).encode()
    hub.repo("org/ours", {"config.json": config, "model.safetensors": weights})
    script = """
import json, timm, zoo.timm_registry
model = timm.create_model("hf-hub:org/ours", pretrained=True).requires_grad_(False)
print(json.dumps([model.pretrained_cfg.name, float(sum(p.sum() for p in model.parameters()))]))
"""
    environment = {
        **closed_network(tmp_path),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
    }
    name, total = fresh(script, **environment)
    assert name == "convit_nano.digits"
    assert total == pytest.approx(
        float(sum(p.detach().sum() for p in model.parameters())), abs=1e-3
    )


# Data configuration


@pytest.mark.parametrize("name", ["convit_nano", "fcvit_b24", "alternet_50_cifar", "resnet_50"])
def test_timm_resolves_the_data_config(name: str) -> None:
    with torch.device("meta"):
        model = zoo.create_model(name)
    spec = zoo.get_record(name).input
    config = timm.data.resolve_model_data_config(model)
    assert config == {
        "input_size": (3, *spec.size),
        "interpolation": spec.interpolation,
        "mean": spec.mean,
        "std": spec.std,
        "crop_pct": spec.crop_pct,
        "crop_mode": "center",
    }


def test_timms_transform_of_the_data_config_is_ours() -> None:
    from PIL import Image

    model = zoo.create_model("convit_nano", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with Image.open(SCAN) as image:
        theirs = transform(image.convert("RGB"))
    torch.testing.assert_close(theirs, model.pretrained_cfg.transform()(SCAN), atol=1e-5, rtol=0)


def test_the_configuration_is_a_frozen_mapping_of_timms_fields() -> None:
    cfg = zoo.create_model("convit_nano", pretrained=True, in_chans=1).pretrained_cfg
    assert cfg["input_size"] == (1, 32, 32)
    assert cfg.get("pool_size", "none") == "none"
    assert len(cfg) == len(dict(cfg)) > 8
    assert timm.models.PretrainedCfg(**cfg).tag == "digits"
    with pytest.raises(AttributeError):
        cfg.tag = "other"
    with pytest.raises(TypeError):
        cfg["tag"] = "other"
    with pytest.raises(KeyError):
        cfg["colour"]


def test_models_that_timm_has_keep_its_name_in_files() -> None:
    with torch.device("meta"):
        names = {n: zoo.create_model(n).pretrained_cfg for n in ("convit_tiny", "convit_nano")}
    assert {n: cfg["architecture"] for n, cfg in names.items()} == {
        "convit_tiny": "convit_tiny",
        "convit_nano": "zoo_convit_nano",
    }
