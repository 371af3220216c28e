"""What timm users do: create our models, load weights, resolve the data config."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
import torch
from torch import nn

import zoo
from tests.contract.helpers import FAMILIES, images, tiny
from tests.reference.naive import on_one_thread
from zoo.catalog.tables import read_costs
from zoo.errors import ConfigError, UnknownModelError
from zoo.weights.safetensors_file import weights_bytes

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
each_family = pytest.mark.parametrize("family", FAMILIES)
ROOT = Path(__file__).resolve().parents[2]
SCAN = str(ROOT / "examples" / "digit_3.png")


@pytest.fixture(scope="module", autouse=True)
def registered() -> ModuleType:
    from zoo.factory import timm_registry

    timm_registry.register_in_timm()
    return timm_registry


def test_timm_lists_models_weights_and_their_descriptions(registered: ModuleType) -> None:
    found = timm.list_models(module="timm_registry")
    assert set(found) == {f"zoo_{name}" for name in zoo.list_models()}
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
