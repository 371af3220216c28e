"""The mapping from the original constructors of how-do-vits-work is general, and strict."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.golden_targets import Built, build
from zoo.layers.mc_dropout import MCDropout
from zoo.layers.smoothing import Blur, SmoothingBlock

C = "models.classifier_block."
S = "models.smoothing_block."
B = "models.resnet_dnn_block.BasicBlock"


def construct(target: str, *args: Any, **kwargs: Any) -> Built:
    with torch.device("meta"):
        return build({"target": target, "args": list(args), "kwargs": kwargs})


def ref(path: str, **kwargs: Any) -> dict[str, Any]:
    return {"$partial": [path, kwargs]} if kwargs else {"$ref": path}


def named(name: str, **kwargs: Any) -> nn.Module:
    return construct("models.get_model", name, verbose=False, **kwargs).module


def keys(module: nn.Module) -> list[str]:
    return list(module.state_dict())


def rates(module: nn.Module) -> set[float]:
    return {layer.rate for layer in module.modules() if isinstance(layer, MCDropout)}


def smoothers(module: nn.Module) -> list[SmoothingBlock]:
    return [layer for layer in module.modules() if isinstance(layer, SmoothingBlock)]


@pytest.mark.parametrize("family", ["resnet", "preresnet", "seresnet", "cbamresnet"])
@pytest.mark.parametrize("kind", ["dnn", "mcdo"])
@pytest.mark.parametrize("depth", [18, 50])
def test_builder_functions_classes_and_names_agree(family: str, kind: str, depth: int) -> None:
    function = construct(f"models.{family}.{kind}_smooth_{depth}", 7, False).module
    name = named(f"{family}_{kind}_smoothing_{depth}", num_classes=7)
    block = ("BasicBlock", "Bottleneck")[depth == 50]
    cls = "models.preresnet.PreResNet" if family == "preresnet" else "models.resnet.ResNet"
    raw = construct(
        cls,
        ref(f"models.{family}_{kind}_block.{block}"),
        [3, 4, 6, 3] if depth == 50 else [2, 2, 2, 2],
        num_sblocks=[1, 1, 1, int(family == "resnet")],
        num_classes=7,
        stem=False,
    ).module
    assert keys(function) == keys(name) == keys(raw)
    assert rates(function) == rates(name) == rates(raw) == {0.3 if kind == "mcdo" else 0.0}
    assert len(smoothers(function)) == len(smoothers(raw)) == (4 if family == "resnet" else 3)


@pytest.mark.parametrize(
    ("module", "kind", "suffix"),
    [("alexnet", "mcdo_smooth", ""), ("vggnet", "dnn_smooth", "_13"), ("prevggnet", "mcdo", "_19")],
)
def test_other_builder_functions(module: str, kind: str, suffix: str) -> None:
    ours = construct(f"models.{module}.{kind}{suffix}", num_classes=3).module
    assert bool(smoothers(ours)) is kind.endswith("smooth")
    assert keys(ours)[-1] == "classifier.2.dense3.bias"


def test_classes_of_vgg_and_alexnet_take_any_block_and_head() -> None:
    vgg = construct(
        "models.vggnet.VGGNet",
        ref("models.prevggnet_mcdo_block.BasicBlock", rate=0.2),
        [1] * 5,
        ref(S + "BlurBlock"),
        [1, 0, 0, 0, 2],
        ref(C + "GAPClipBlock", temp=3.0),
    ).module
    assert rates(vgg) == {0.2}
    assert [len(getattr(vgg, f"smooth{n}")) for n in range(5)] == [1, 0, 0, 0, 2]
    assert vgg.classifier[0].temp == 3.0
    block = ref("models.alexnet_dnn_block.BasicBlock")
    assert "classifier.0.dense.weight" in keys(
        construct("models.alexnet.AlexNet", block, cblock=ref(C + "GMedPBlock")).module
    )


def test_a_resnet_class_keeps_its_stem_whatever_the_block() -> None:
    args = (ref("models.preresnet_dnn_block.BasicBlock"), [1] * 4)
    resnet = construct("models.resnet.ResNet", *args).module
    preresnet = construct("models.preresnet.PreResNet", *args).module
    assert "layer0.1.weight" in keys(resnet)
    assert "layer0.1.weight" not in keys(preresnet)
    assert keys(resnet)[-2:] == ["classifier.0.dense.weight", "classifier.0.dense.bias"]
    assert "classifier.0.bn.weight" in keys(preresnet)


def test_block_keywords_reach_what_knows_them() -> None:
    kwargs = {"rate": 0.5, "temp": 4.0, "sfilter": [1, 2, 1], "pad_mode": "reflect", "sd": 0.1}
    model = named(
        "seresnet_mcdo_smoothing_18", reduction=8, cblock=ref(C + "GAPClipBlock"), **kwargs
    )
    assert rates(model) == {0.5}
    assert {block.temp for block in smoothers(model)} == {4.0}
    assert model.classifier[0].temp == 4.0
    blurs = [layer for layer in model.modules() if isinstance(layer, Blur)]
    assert {blur.filter.shape[2:] for blur in blurs} == {(3, 3)}
    assert model.layer1[0].gate.ff[0].weight.shape == (8, 64)


def test_the_relu_block_takes_a_threshold_and_ignores_temp() -> None:
    model = named("resnet_dnn_smoothing_18", sblock=ref(S + "ReLuBlock"), temp=4.0, thr=2.0)
    assert {block.temp for block in smoothers(model)} == {2.0}
    assert construct(S + "ReLuBlock", thr=3.0, temp=5.0, in_filters=4).module.temp == 3.0


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("resnet_mcdo_18", {"image_size": 32, "patch_size": 4, "anything": 1}),
        ("vgg_11", {"sd": 0.1, "groups": 3, "stem": True}),
        ("vit_ti", {"anything": 1}),
        ("mixer_ti", {"channel": 5, "embedding": 1}),
    ],
)
def test_what_the_original_swallows_is_swallowed(name: str, kwargs: dict[str, Any]) -> None:
    assert keys(named(name, **kwargs)) == keys(named(name))


@pytest.mark.parametrize(
    ("target", "kwargs", "error"),
    [
        ("models.get_model", {"name": "resnet_20"}, NotImplementedError),
        ("models.get_model", {"name": "swin_t"}, NotImplementedError),
        ("models.get_model", {"name": "resnet_dnn_smoothing_18", "num_sblocks": [1]}, TypeError),
        ("models.get_model", {"name": "resnext_50", "groups": 2}, TypeError),
        ("models.get_model", {"name": "resnet_18", "groups": 2}, ValueError),
        ("models.get_model", {"name": "pit_ti", "anything": 1}, TypeError),
        ("models.resnet.ResNet", {"block": {"$ref": B}}, TypeError),
        ("models.resnet.ResNet", {"block": {"$ref": "a.B"}, "num_blocks": [1] * 4}, LookupError),
        ("models.swin.swin_t", {}, TypeError),
        ("models.pit.PiT", {"image_size": 32}, TypeError),
        ("models.mixer.Mixer", {"anything": 1}, TypeError),
        ("models.attentions.Attention1d", {"dim_in": 8, "k": 2}, TypeError),
        ("models.gates.ChannelGate", {"channel": 32, "anything": 1}, TypeError),
        ("models.gates.SpatialGate", {"kernel_size": 3}, ValueError),
        (S + "BNBlurBlock", {"in_filters": 4}, LookupError),
        ("models.resnet.dnn_19", {}, LookupError),
        ("timm.models.pit.PoolingVisionTransformer", {}, TypeError),
        ("timm.models.swin_transformer.SwinTransformer", {"ape": True}, NotImplementedError),
    ],
)
def test_what_the_original_refuses_fails(
    target: str, kwargs: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        construct(target, **kwargs)


def test_positional_arguments_follow_the_original_order() -> None:
    vit = construct("models.vit.tiny", 7, "name", 32, 4, 1, 2, 24, 3, 8, 40).module
    assert vit.embedding[2].pos_embedding.shape == (1, 65, 24)
    assert vit.transformers[0].ff.net[0].weight.shape == (40, 24)
    pit = construct("models.pit.small", 7, "name", 32, 4, 3, 2, [8, 16, 32], [1, 1, 1]).module
    assert pit.embedding[2].pos_embedding.shape == (1, 15 * 15 + 1, 8)
    mixer = construct("models.mixer.base", 7, "name", 32, 8, 1, 12, 5, 24, 1).module
    assert mixer.mlps[0].ff1.net[0].weight.shape == (5, 16, 1)
    swin = construct("models.swin.swin_l", 7, [8, 16], [3, 2], [1, 2], [8, 8], pools=[1, 2]).module
    assert len(swin.layer1) == 1 + 2  # an odd depth is rounded down


def test_a_scalar_stands_for_three_stages() -> None:
    kwargs = {"dims": 8, "heads": 2, "dims_head": 4, "dims_mlp": 16, "depths": [1, 1, 1]}
    pit = construct("models.pit.PiT", image_size=32, patch_size=8, num_classes=3, **kwargs).module
    assert pit.classifier[2].weight.shape == (3, 8)
    assert pit.embedding[2].pos_embedding.shape == (1, 17, 8)  # stride is the patch


@pytest.mark.parametrize(
    "attn", ["Attention1d", "Attention2d", "ConvAttention2d", "WindowAttention", "LocalAttention"]
)
def test_a_transformer_takes_any_attention(attn: str) -> None:
    home = {"ConvAttention2d": "convit", "WindowAttention": "swin", "LocalAttention": "alternet"}
    path = f"models.{home.get(attn, 'attentions')}.{attn}"
    maps = attn != "Attention1d"
    conv = ref("torch.nn.Conv2d", kernel_size=1)
    kwargs = {"norm": ref("models.layers.ln2d"), "f": conv} if maps else {}
    bound = {"window_size": 4} if attn in ("WindowAttention", "LocalAttention") else {}
    block = build(
        {
            "target": "models.attentions.Transformer",
            "args": [8],
            "kwargs": {"heads": 2, "dim_head": 4, "attn": ref(path, **bound), **kwargs},
        }
    ).module
    x = torch.randn(2, 8, 8, 8) if maps else torch.randn(2, 5, 8)
    assert block(x).shape == x.shape
    assert ("norm1.1.weight" if maps else "norm1.weight") in keys(block)


@pytest.mark.parametrize("activation", ["ReLU", "GELU", "SiLU"])
def test_a_feed_forward_part_takes_any_activation(activation: str) -> None:
    conv = ref("torch.nn.Conv1d", kernel_size=1)
    module = construct(
        "models.attentions.FeedForward",
        8,
        16,
        4,
        f=conv,
        activation=ref(f"torch.nn.{activation}"),
    ).module
    assert type(module.net[1]) is getattr(nn, activation)
    assert module.net[3].weight.shape == (4, 16, 1)


def test_blocks_take_the_original_arguments_in_order() -> None:
    block = construct("models.cbamresnet_mcdo_block.Bottleneck", 64, 32, 2, 2, 64, 0.2, 0.1, 4)
    assert block.module.conv2[0].weight.shape == (64, 32, 3, 3)
    assert block.module.dropout.rate == 0.2
    assert block.module.drop_path.drop_prob == 0.1
    assert block.module.gate[0].ff[0].weight.shape == (32, 128)
    unit = construct("models.alexnet_mcdo_block.BasicBlock", 3, 8, 5, 2, 1).module
    assert (unit.conv.stride, unit.conv.padding, unit.dropout.rate) == ((2, 2), (1, 1), 0.1)
    expanding = construct("models.mobilenet.Bottleneck", 8, 16, 2, 1).module
    assert "conv3.1.weight" in keys(expanding)
    assert "conv3.1.weight" not in keys(construct("models.mobilenet.Basic", 8, 16, 2, 1).module)
    mobile = construct("models.mobilenet.MobileNet", width_mult=0.35, channel=1, rate=3).module
    assert mobile.features[0][0].weight.shape == (16, 1, 3, 3)


def test_small_layers() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    shifted = build({"target": "models.swin.CyclicShift", "args": [-1]}).module(x)
    assert shifted[0, 0, 0, 0] == x[0, 0, 1, 1]
    pad = build({"target": "models.layers.SamePad", "args": [3]}).module
    assert pad(x).shape == (1, 2, 6, 6)
    tokens = torch.randn(1, 5, 12)
    unembed = {"target": "models.embeddings.PatchUnembedding", "args": [4, 2]}
    maps = build(unembed).module(tokens)
    assert maps.shape == (1, 3, 4, 4)
    assert maps[0, 1, 2, 3] == tokens[0, 1 + 2 * 1 + 1, (0 * 2 + 1) * 3 + 1]
    positions = construct("models.embeddings.AbsPosEmbedding", 32, 4, 6, 2, False).module
    assert positions.pos_embedding.shape == (1, 15 * 15, 6)
    relu6 = build({"target": "models.layers.relu6", "kwargs": {"mx": 2}}).module
    assert relu6(torch.tensor([-1.0, 5.0])).tolist() == [0.0, 2.0]
