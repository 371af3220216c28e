"""Gates and classifier blocks, against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.layers.heads import CLASSIFIER_KINDS, ClassifierBlock
from zoo.layers.residual import ChannelGate, SpatialGate, make_gate


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def two_layers(gate: ChannelGate, v: Tensor) -> Tensor:
    w1, w2 = gate.ff[0].weight, gate.ff[2].weight
    return w2 @ (w1 @ v).clamp(min=0)


@pytest.mark.parametrize("max_pool", [False, True])
def test_the_channel_gate_averages_the_logits_of_its_poolings(max_pool: bool) -> None:
    gate, x = ChannelGate(8, 4, max_pool).double(), noise(2, 8, 3, 5)
    for image, gated in zip(x, gate(x), strict=True):
        logits = two_layers(gate, image.mean((1, 2)))
        if max_pool:
            logits = (logits + two_layers(gate, image.amax((1, 2)))) / 2
        torch.testing.assert_close(gated, image * torch.sigmoid(logits)[:, None, None])


@pytest.mark.parametrize("max_pool", [False, True])
def test_the_spatial_gate_weighs_pixels(max_pool: bool) -> None:
    gate, x = SpatialGate(max_pool).double().eval(), noise(2, 4, 9, 10)
    gate.ff[1].running_mean.fill_(0.3)
    maps = torch.stack([x.mean(1), x.amax(1)][: 1 + max_pool], 1)
    padded = nn.functional.pad(maps, (3, 3, 3, 3))
    y, z = 2, 7
    window = padded[:, :, y : y + 7, z : z + 7]
    logit = (window * gate.ff[0].weight[0]).sum((1, 2, 3))
    weight = torch.sigmoid((logit - 0.3) / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(gate(x)[:, :, y, z], x[:, :, y, z] * weight[:, None])


def test_named_gates() -> None:
    assert list(make_gate("se", 16).state_dict()) == ["ff.0.weight", "ff.2.weight"]
    assert list(make_gate("cbam", 16).state_dict())[:3] == [
        "0.ff.0.weight",
        "0.ff.2.weight",
        "1.ff.0.weight",
    ]
    with pytest.raises(ValueError, match="gate must be 'se' or 'cbam'; got 'eca'"):
        make_gate("eca", 16)


def test_a_reduction_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="got reduction=16 for 8 channels"):
        ChannelGate(8)


def pooled(kind: str, x: Tensor, temp: float) -> Tensor:
    """What each head computes before its linear layers, channel by channel."""
    values = x.flatten(2).sort(-1).values
    return {
        "gap": values.mean(-1),
        "bngap": (values / (1 + 1e-5) ** 0.5).clamp(min=0).mean(-1),
        "gmaxp": values[..., -1],
        "gmedp": values[..., -(values.shape[-1] // 2)],
        "gapclip": temp * (1 / (1 + torch.exp(-values.mean(-1) / temp)) - 0.5),
        "gapmlp": values.mean(-1),
        "mlp": x.flatten(1),
    }[kind]


@pytest.mark.parametrize("size", [(3, 3), (2, 4), (1, 2)])
@pytest.mark.parametrize("kind", CLASSIFIER_KINDS)
def test_heads_pool_as_their_names_say(kind: str, size: tuple[int, int]) -> None:
    x = noise(2, 4, *size)
    features = x[0].numel() if kind == "mlp" else 4
    block = ClassifierBlock(features, 3, kind, temp=1.5, hidden_dim=8).double().eval()
    y = pooled(kind, x, 1.5)
    if kind in ("mlp", "gapmlp"):
        y = block.dense2(block.dense1(y).clamp(min=0)).clamp(min=0)
    torch.testing.assert_close(block.pre_logits(x), y)
    assert block(x).shape == (2, 3)
    assert block.num_features == y.shape[1]


@pytest.mark.parametrize("kind", CLASSIFIER_KINDS)
def test_heads_without_classes_return_what_the_last_layer_sees(kind: str) -> None:
    x = noise(2, 4, 3, 3)
    features = 36 if kind == "mlp" else 4
    block = ClassifierBlock(features, 0, kind, hidden_dim=8).double().eval()
    assert torch.equal(block(x), block.pre_logits(x))


def test_hidden_layers_are_4096_wide_unless_told() -> None:
    with torch.device("meta"):
        assert ClassifierBlock(4, 3, "gapmlp").dense2.weight.shape == (4096, 4096)


def test_the_median_of_one_pixel_is_refused() -> None:
    with pytest.raises(InputError, match="at least two pixels"):
        ClassifierBlock(4, 3, "gmedp")(torch.zeros(1, 4, 1, 1))


def test_a_map_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="'mlp' head takes 36 features; this image makes 64"):
        ClassifierBlock(36, 3, "mlp", hidden_dim=8)(torch.zeros(1, 4, 4, 4))


def test_unknown_heads_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"cblock must be one of gap, .*; got 'pool'"):
        ClassifierBlock(4, 3, "pool")
