"""The convolutional networks of how-do-vits-work: block kinds, smoothing, stems, heads, sizes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from tests.reference.naive import on_one_thread
from zoo.catalog.registry import families
from zoo.errors import ConfigError
from zoo.factory.building import construct
from zoo.layers.mc_dropout import MCDropout, mc_sampling
from zoo.layers.smoothing import SMOOTHING_KINDS, SmoothingBlock

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
CNNS = ["alexnet", "vgg", "prevgg", "resnet", "preresnet", "resnext", "wideresnet"]
CNNS += ["seresnet", "cbamresnet"]
# places of smoothing blocks in upstream's networks
PLACES = {
    "alexnet": (0, 1, 2),
    "vgg": (0, 1, 2, 3, 4),
    "prevgg": (0, 1, 2, 3, 4),
    "resnet": (1, 2, 3, 4),
    "resnext": (1, 2, 3, 4),
    "wideresnet": (1, 2, 3, 4),
    "preresnet": (1, 2, 3),
    "seresnet": (1, 2, 3),
    "cbamresnet": (1, 2, 3),
}
each_cnn = pytest.mark.parametrize("family", CNNS)
each_block = pytest.mark.parametrize("block", ["dnn", "mcdo"])
each_smoothing = pytest.mark.parametrize("smoothing", [False, True])


def tiny(family: str, seed: int = 0, **overrides: Any) -> nn.Module:
    torch.manual_seed(seed)
    record = families()[family]
    return construct(record.builder, {**record.tiny, **overrides}).eval()


def images(batch: int = 2, height: int = 32, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, height, width, generator=generator)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float(((actual - expected).abs().max() / expected.abs().max()).detach())


@each_cnn
@each_block
@each_smoothing
@pytest.mark.parametrize("batch", [1, 3])
def test_every_kind_has_finite_logits(family: str, block: str, smoothing: bool, batch: int) -> None:
    logits = tiny(family, block=block, smoothing=smoothing)(images(batch))
    assert logits.shape == (batch, 7)
    assert logits.isfinite().all()


@each_cnn
@each_block
@each_smoothing
def test_every_kind_trains_all_its_parameters(family: str, block: str, smoothing: bool) -> None:
    model = tiny(family, block=block, smoothing=smoothing).train()
    model(images(4)).square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


@each_cnn
@each_block
@each_smoothing
def test_every_kind_survives_json(family: str, block: str, smoothing: bool) -> None:
    config = {**families()[family].tiny, "block": block, "smoothing": smoothing}
    model = tiny(family, block=block, smoothing=smoothing)
    twin = construct(families()[family].builder, json.loads(json.dumps(config))).eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(images()), model(images()))


# each form of block and head quickly, with all that a graph can have in it
SAMPLE = (("alexnet", "mcdo"), ("prevgg", "mcdo"), ("preresnet", "mcdo"), ("seresnet", "mcdo"))


@pytest.mark.parametrize(
    ("family", "block"),
    [
        pytest.param(family, block, marks=() if (family, block) in SAMPLE else pytest.mark.slow)
        for family in CNNS
        for block in ("dnn", "mcdo")
    ],
)
def test_every_kind_exports_with_a_dynamic_batch(family: str, block: str) -> None:
    model = tiny(family, block=block, smoothing=True)
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(model, (images(),), dynamic_shapes=shapes)
    for batch in (1, 5):
        assert relative_error(program.module()(images(batch)), model(images(batch))) < 1e-5


@each_cnn
@each_smoothing
def test_mc_dropout_is_off_in_eval(family: str, smoothing: bool) -> None:
    plain = tiny(family, smoothing=smoothing)
    dropped = tiny(family, smoothing=smoothing, block="mcdo", mc_rate=0.9)
    if family in ("preresnet",):  # upstream's extra BatchNorm, the identity at first
        state = {**dropped.state_dict(), **plain.state_dict()}
    else:
        state = plain.state_dict()
    dropped.load_state_dict(state)
    assert relative_error(dropped(images()), plain(images())) < 1e-4


@each_cnn
def test_mc_dropout_is_on_when_asked_for(family: str) -> None:
    model, x = tiny(family, block="mcdo", mc_rate=0.5), images()
    expected = model(x)
    with mc_sampling(model):
        assert relative_error(model(x), expected) > 1e-3
    assert torch.equal(model(x), expected)
    assert (model.mc_predict(x, mc_samples=2).variance > 0).any()


@each_cnn
def test_without_mc_dropout_there_is_nothing_to_sample(family: str) -> None:
    with pytest.raises(ValueError, match="build it with block='mcdo'"):
        tiny(family).mc_predict(images())


@pytest.mark.parametrize(("family", "rate"), [("alexnet", 0.1), ("vgg", 0.3), ("resnet", 0.3)])
def test_default_rates_are_those_of_the_original(family: str, rate: float) -> None:
    layers = [m for m in tiny(family, block="mcdo").modules() if isinstance(m, MCDropout)]
    assert {layer.rate for layer in layers} == {rate}


@each_cnn
def test_smoothing_blocks_stand_where_the_original_has_them(family: str) -> None:
    model = tiny(family, smoothing=True)
    found = [n for n in range(5) if len(getattr(model, f"smooth{n}", ()))]
    assert tuple(found) == PLACES[family]


@each_cnn
def test_numbers_of_smoothing_blocks_may_be_given(family: str) -> None:
    places = PLACES[family] + (() if len(PLACES[family]) != 3 or family == "alexnet" else (4,))
    model = tiny(family, smoothing=[2] + [0] * (len(places) - 1))
    blocks = [m for m in model.modules() if isinstance(m, SmoothingBlock)]
    assert len(blocks) == len(getattr(model, f"smooth{places[0]}")) == 2
    with pytest.raises(ConfigError, match=rf"true, false or {len(places)} numbers of blocks"):
        tiny(family, smoothing=[1])


@pytest.mark.parametrize("kind", SMOOTHING_KINDS)
@pytest.mark.parametrize("family", ["vgg", "resnet"])
def test_every_kind_of_smoothing_block_runs(family: str, kind: str) -> None:
    kwargs = {"sblock": kind, "sfilter": [1, 2, 1], "pad_mode": "replicate", "temp": 3.0}
    logits = tiny(family, smoothing=True, **kwargs)(images())
    assert logits.isfinite().all()


@pytest.mark.parametrize("cblock", ["gap", "bngap", "mlp", "gmaxp", "gmedp", "gapclip"])
@pytest.mark.parametrize("family", ["alexnet", "resnet"])
def test_heads_may_be_chosen(family: str, cblock: str) -> None:
    model = tiny(family, cblock=cblock)
    x = images(2, 64, 64)
    embedding = model.forward_head(model.forward_features(x), pre_logits=True)
    assert embedding.shape == (2, model.num_features)
    assert torch.equal(model.get_classifier()(embedding), model(x))


@pytest.mark.parametrize("cblock", [None, "mlp"])
def test_reset_keeps_the_rest_of_the_head(cblock: str | None) -> None:
    model = tiny("preresnet", cblock=cblock)
    model.reset_classifier(3)
    assert model(images()).shape == (2, 3)


def test_smoothing_grows_maps_as_in_the_original() -> None:
    model = zoo.create_model("hdvw:resnet_dnn_smoothing_18").eval()
    sides = []
    for n in range(1, 5):
        smooth = getattr(model, f"smooth{n}")
        smooth.register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1]))
    model(images(1))
    assert sides == [33, 18, 10, 6]


@pytest.mark.parametrize("family", ["resnet", "preresnet", "alexnet", "mobilenet"])
def test_stems_reduce_as_feature_info_says(family: str) -> None:
    for stem in (False, True):
        model, seen = tiny(family, stem=stem), []
        first = model.feature_info[0]
        model.get_submodule(first["module"]).register_forward_hook(
            lambda _m, _i, out, seen=seen: seen.append(out.shape[-1])
        )
        model(images(1, 96, 96))
        assert abs(seen[0] - 96 / first["reduction"]) <= 1


@pytest.mark.parametrize(
    ("name", "kwargs", "side"),
    [
        ("alexnet", {}, 63),
        ("alexnet", {"stem": False}, 15),
        ("alexnet", {"cblock": "gap"}, 31),
        ("vgg_11", {}, 32),
        ("vgg_11", {"cblock": "gap"}, 16),
    ],
)
def test_the_smallest_image_runs_and_a_smaller_one_is_refused(
    name: str, kwargs: dict[str, Any], side: int
) -> None:
    with torch.device("meta"):
        model = zoo.create_model(name, **kwargs).eval()
        fitting, small = torch.empty(1, 3, side, side), torch.empty(1, 3, side + 4, side - 1)
    assert model(fitting).shape == (1, 1000)
    with pytest.raises(ValueError, match=rf"at least {side} x {side} pixels; got {side + 4} x"):
        model(small)


def test_a_stem_that_does_not_fit_says_what_does() -> None:
    with torch.device("meta"):
        model = zoo.create_model("alexnet").eval()
        x = torch.empty(1, 3, 32, 32)
    with pytest.raises(ValueError, match=r"at least 63 x 63 pixels; got 32 x 32; stem=False takes"):
        model(x)


@each_cnn
def test_unknown_block_kinds_are_refused_with_the_known_ones(family: str) -> None:
    with pytest.raises(ConfigError, match="block must be one of dnn, mcdo; got 'bayes'"):
        tiny(family, block="bayes")


@pytest.mark.parametrize("wrong", [{"block": "mcdo"}, {"smoothing": True}])
def test_mobilenet_says_that_it_has_no_other_kind(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="has the block kind 'dnn' only, without smoothing"):
        zoo.create_model("mobilenet", **wrong)


@pytest.mark.parametrize(
    ("family", "wrong", "message"),
    [
        ("resnet", {"num_blocks": (1, 1)}, "four positive numbers each"),
        ("vgg", {"widths": (8, 8)}, "five positive numbers each"),
        ("alexnet", {"widths": (8, 8)}, "five numbers, one per convolution"),
        ("resnet", {"gate": "eca"}, "gate must be 'se' or 'cbam'"),
        ("resnet", {"groups": 2}, "a basic block takes groups=1"),
        ("resnet", {"smoothing": True, "sblock": "blurr"}, "sblock must be one of"),
        ("resnet", {"cblock": "avg"}, "cblock must be one of"),
        ("resnet", {"block": "mcdo", "mc_rate": 1.0}, r"must be in \[0, 1\)"),
        ("resnet", {"smothing": True}, "did you mean smoothing"),
    ],
)
def test_impossible_configurations_are_refused(
    family: str, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(family, **wrong)


@pytest.mark.parametrize("width_mult", [0.05, 0.25, 0.75, 1.4])
def test_mobilenet_widths_are_multiples_of_eight_and_never_below_ninety_percent(
    width_mult: float,
) -> None:
    model = tiny("mobilenet", width_mult=width_mult)
    for info, channels in zip(model.feature_info[1:], (16, 24, 32, 64, 96, 160, 320), strict=True):
        assert info["num_chs"] % (8 if width_mult >= 0.1 else 4) == 0
        assert info["num_chs"] >= 0.9 * channels * width_mult
    assert model.num_features == (1792 if width_mult == 1.4 else 1280)
