"""Every name of how-do-vits-work's get_model: what it resolves to, and its state dict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from tests.goldens import fill
from zoo.catalog.records import Family, Licence
from zoo.errors import ConfigError, DuplicateNameError, UnknownModelError

RECORDED = json.loads((Path(__file__).with_name("hdvw_names.json")).read_text("utf-8"))
MODELS: list[dict[str, Any]] = RECORDED["get_model"]
NAMES = [name for model in MODELS for name in model["names"]]


def keywords(name: str, setting: str) -> dict[str, Any]:
    """Keywords of the original's get_model in the two recorded settings."""
    if setting == "imagenet":
        return {"num_classes": 1000, "stem": True}
    family = name.partition("_")[0]
    image = {"image_size": 32, "patch_size": 2} if family in ("vit", "pit", "mixer") else {}
    stride = {"stride": 1} if family == "pit" else {}
    return {"num_classes": 100, "stem": False, **image, **stride}


def on_meta(name: str, **kwargs: Any) -> nn.Module:
    with torch.device("meta"):
        return zoo.create_model(name, **kwargs)


def fingerprint(model: nn.Module) -> list[Any]:
    rows = [
        [key, list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in model.state_dict().items()
    ]
    return [sum(p.numel() for p in model.parameters()), fill.spec_sha256(rows)]


def test_all_names_are_recorded() -> None:
    assert len(MODELS) == 146
    assert len(NAMES) == len(set(NAMES)) == 179


def test_every_name_is_an_alias_and_no_other_is() -> None:
    listed = [name for name in zoo.list_models(aliases=True) if ":" in name]
    assert sorted(listed) == sorted(f"hdvw:{name}" for name in NAMES)


def _in_both_settings() -> list[Any]:
    """Every model for CIFAR-100; for ImageNet, whose stem differs, quickly one of each family."""
    rows, met = [], set()
    for model in MODELS:
        name = model["names"][0]
        family = name.partition("_")[0]
        rows.append(pytest.param(model, "cifar100", id=f"{name}-cifar100"))
        marks = pytest.mark.slow if family in met else ()
        rows.append(pytest.param(model, "imagenet", id=f"{name}-imagenet", marks=marks))
        met.add(family)
    return rows


@pytest.mark.parametrize(("model", "setting"), _in_both_settings())
def test_state_dicts_are_those_of_the_original(model: dict[str, Any], setting: str) -> None:
    for name in model["names"]:
        built = on_meta(f"hdvw:{name}", **keywords(name, setting))
        assert fingerprint(built) == model[setting], name


@pytest.mark.parametrize("setting", ["cifar100", "imagenet"])
@pytest.mark.parametrize("model", RECORDED["other"], ids=lambda model: model["model"])
def test_state_dicts_of_models_outside_get_model_are_those_of_the_original(
    model: dict[str, Any], setting: str
) -> None:
    swin = model["model"].startswith("hdvw_swin")
    small = {"window_size": 4, "pools": (1, 2, 2, 2)} if swin else {"stem": False}
    kwargs = {"num_classes": 100, **small} if setting == "cifar100" else {}
    assert fingerprint(on_meta(model["model"], **kwargs)) == model[setting]


@pytest.mark.parametrize(
    ("alias", "model", "config"),
    [
        ("hdvw:resnet_50", "resnet_50", {"num_classes": 10, "stem": False}),
        ("hdvw:vgg_mcdo_11", "vgg_11", {"num_classes": 10, "block": "mcdo"}),
        ("hdvw:vit_ti", "hdvw_vit_tiny", {"num_classes": 10}),
        (
            "hdvw:alexnet_mcdo_smoothing",
            "alexnet",
            {"num_classes": 10, "stem": False, "block": "mcdo", "smoothing": True},
        ),
    ],
)
def test_an_alias_is_a_model_with_the_originals_defaults(
    alias: str, model: str, config: dict[str, Any]
) -> None:
    built = on_meta(alias)
    assert built.pretrained_cfg.architecture == model
    assert built.pretrained_cfg.model_args == config
    assert zoo.get_record(alias).alias == alias


def test_an_alias_and_its_model_compute_the_same() -> None:
    torch.manual_seed(0)
    alias = zoo.create_model("hdvw:resnet_mcdo_smoothing_18", num_classes=7).eval()
    torch.manual_seed(0)
    kwargs = {"block": "mcdo", "smoothing": True, "stem": False, "num_classes": 7}
    model = zoo.create_model("resnet_18", **kwargs).eval()
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(alias(x), model(x))


def test_what_an_alias_builds_is_built_again_from_its_record() -> None:
    cfg = on_meta("hdvw:preresnet_mcdo_50", num_classes=5).pretrained_cfg
    again = on_meta(cfg.architecture, **cfg.model_args)
    assert fingerprint(again) == fingerprint(on_meta("hdvw:preresnet_mcdo_50", num_classes=5))


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("resnet_mcdo_18", {"rate": 0.2, "sd": 0.1}, {"mc_rate": 0.2, "drop_path_rate": 0.1}),
        ("vit_ti", {"channel": 1, "stem": True}, {"in_chans": 1}),
        ("mixer_ti", {"channel": 1, "channels": 2}, {"in_chans": 2}),
        ("pit_s", {"image_size": 64, "verbose": False}, {"img_size": 64}),
        ("vgg_11", {"sd": 0.1, "image_size": 32}, {}),
    ],
)
def test_an_alias_takes_the_originals_keywords(
    name: str, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    args = on_meta(f"hdvw:{name}", **theirs).pretrained_cfg.model_args
    assert {**args, **ours} == args
    assert not {"image_size", "sd", "rate", "channel", "channels", "verbose"} & set(args)


def test_our_own_names_do_not_take_the_originals_keywords() -> None:
    with pytest.raises(ConfigError, match="no argument 'image_size'; did you mean img_size"):
        on_meta("hdvw_vit_tiny", image_size=32)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("hdvw:resnet_mcdo_smooting_50", "hdvw:resnet_mcdo_smoothing_50"),
        ("hdvw:vit_t", "hdvw:vit_ti"),
        ("resnet_mcdo_50", "hdvw:resnet_mcdo_50"),
        ("resnet_51", "resnet_50"),
    ],
)
def test_an_unknown_name_names_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(UnknownModelError, match=rf"unknown \w+ '{wrong}'; did you mean .*{near}\b"):
        zoo.create_model(wrong)


def test_aliases_never_mean_convit() -> None:
    assert not [name for name in zoo.list_models(aliases=True) if name.startswith("hdvw:convit")]
    assert zoo.get_record("convit_tiny").family.paper == "arXiv:2103.10697"


def test_aliases_are_hidden_from_ordinary_listings() -> None:
    assert not [name for name in zoo.list_models() if ":" in name]
    assert zoo.list_models("hdvw:vit_*", aliases=True) == [
        "hdvw:vit_ti",
        "hdvw:vit_s",
        "hdvw:vit_b",
        "hdvw:vit_l",
        "hdvw:vit_h",
    ]


@pytest.fixture
def a_family() -> dict[str, Any]:
    facts = dict.fromkeys(("name", "builder", "summary", "paper", "bibtex", "upstream"), "x")
    return {
        **facts,
        "licence": Licence(code="x", weights="x"),
        "variants": {"a": {}},
        "tiny": {"depth": 1},
    }


@pytest.mark.parametrize("aliases", [{"a": ("a", {})}, {"x:a": ("b", {})}])
def test_an_alias_has_a_prefix_and_a_model(
    a_family: dict[str, Any], aliases: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="must be PREFIX:NAME of a model here"):
        Family(**a_family, aliases=aliases)


def test_two_families_cannot_share_an_alias(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    from zoo.catalog import registry
    from zoo.catalog.families import hdvw_pit

    taken = replace(hdvw_pit.FAMILY, aliases={"hdvw:vit_ti": ("hdvw_pit_tiny", {})})
    monkeypatch.setattr(hdvw_pit, "FAMILY", taken)
    request.addfinalizer(registry.families.cache_clear)
    registry.families.cache_clear()
    with pytest.raises(DuplicateNameError, match="hdvw:vit_ti"):
        registry.families()
