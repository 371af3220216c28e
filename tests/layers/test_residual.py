"""The residual block: its algebra, its places, its two forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.layers.mc_dropout import MCDropout
from zoo.layers.residual import ChannelGate, ConvUnit, ResidualBlock

FORMS = [(bottleneck, preact) for bottleneck in (False, True) for preact in (False, True)]


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def block(*args: Any, **kwargs: Any) -> ResidualBlock:
    """In eval, with BatchNorms that are not the identity."""
    module = ResidualBlock(*args, **kwargs).double().eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
    return module


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, None, conv.stride, conv.padding, 1, conv.groups)


def normalise(bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    shape = (1, -1, 1, 1)
    scale = bn.weight / (bn.running_var + 1e-5).sqrt()
    return (x - bn.running_mean.view(shape)) * scale.view(shape) + bn.bias.view(shape)


def naive(module: ResidualBlock, x: Tensor) -> Tensor:
    """He et al. 2015, figure 5, and 2016, figure 1, from the same weights."""
    convs = [getattr(module, f"conv{i}") for i in range(1, 4 if module.bottleneck else 3)]
    shortcut = list(module.shortcut)
    if module.preact:
        a = normalise(module.bn, x).relu()
        skip = a if shortcut else x
        y = convolve(convs[0], a)
        for bn, _, conv in convs[1:]:
            y = convolve(conv, normalise(bn, y).relu())
    else:
        skip, y = x, x
        for i, unit in enumerate(convs):
            y = normalise(unit[1], convolve(unit[0], y))
            y = y.relu() if i < len(convs) - 1 else y
    for layer in shortcut:
        skip = convolve(layer, skip) if isinstance(layer, nn.Conv2d) else normalise(layer, skip)
    return skip + y if module.preact else (skip + y).relu()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("chans", [6, 16])
@pytest.mark.parametrize(("bottleneck", "preact"), FORMS)
def test_it_is_the_papers_block(bottleneck: bool, preact: bool, chans: int, stride: int) -> None:
    module = block(chans, 4, stride, bottleneck, preact)
    x = noise(2, chans, 5, 8)
    y = module(x)
    torch.testing.assert_close(y, naive(module, x))
    assert y.shape == (2, 16 if bottleneck else 4, -(-5 // stride), -(-8 // stride))
    assert y.shape[1] == module.out_channels


@pytest.mark.parametrize(("bottleneck", "preact"), FORMS)
def test_the_skip_is_the_identity_where_the_shape_stays(bottleneck: bool, preact: bool) -> None:
    chans = 16 if bottleneck else 4
    assert not list(block(chans, 4, 1, bottleneck, preact).shortcut)
    assert len(block(chans, 4, 2, bottleneck, preact).shortcut) == (1 if preact else 2)


def test_a_preactivation_skip_may_have_a_norm() -> None:
    module = block(8, 4, 2, True, True, shortcut_norm=True)
    assert len(module.shortcut) == 2
    torch.testing.assert_close(module(noise(2, 8, 5, 6)), naive(module, noise(2, 8, 5, 6)))


@pytest.mark.parametrize(("groups", "per_group", "width"), [(1, 128, 16), (4, 32, 16), (2, 64, 16)])
def test_groups_and_widths(groups: int, per_group: int, width: int) -> None:
    module = block(8, 8, 1, True, groups=groups, width_per_group=per_group)
    assert module.conv2[0].weight.shape == (width, width // groups, 3, 3)
    assert module(noise(1, 8, 4, 4)).shape == (1, 32, 4, 4)


@pytest.mark.parametrize("kwargs", [{"groups": 2}, {"width_per_group": 128}])
def test_a_basic_block_refuses_groups_and_widths(kwargs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a basic block takes groups=1 and width_per_group=64"):
        ResidualBlock(8, 8, **kwargs)


@pytest.mark.parametrize("preact", [False, True])
def test_the_gate_acts_before_the_sum(preact: bool) -> None:
    module = block(4, 4, preact=preact, gate=lambda chans: ChannelGate(chans, 2))
    x = noise(1, 4, 3, 3)
    gated = module(x)
    branch = []
    module.gate.register_forward_hook(lambda _m, inputs, out: branch.append((inputs[0], out)))
    module(x)
    before, after = branch[0]
    module.gate = nn.Identity()
    plain = module(x)
    if preact:
        torch.testing.assert_close(gated - x, after)
        torch.testing.assert_close(plain - x, before)
    assert not torch.allclose(gated, plain)


@pytest.mark.parametrize(
    ("bottleneck", "preact", "inner"),
    [(False, False, 4), (False, True, 4), (True, False, 8), (True, True, 8)],
)
def test_dropout_acts_inside_the_branch(bottleneck: bool, preact: bool, inner: int) -> None:
    kwargs = {"width_per_group": 128} if bottleneck else {}
    module = block(4, 4, 2, bottleneck, preact, dropout=0.5, **kwargs)
    seen = []
    module.dropout.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    module(noise(1, 4, 6, 6))
    assert seen[0].shape == (1, inner, 3, 3)
    assert bool((seen[0] >= 0).all()) is not preact  # behind a ReLU, or behind a bare convolution


def test_drop_path_spares_the_skip() -> None:
    torch.manual_seed(0)
    module = block(4, 4, preact=True, drop_path=0.5).train()
    x = noise(32, 4, 3, 3)
    same = (module(x) == x).flatten(1).all(1)
    assert 0 < int(same.sum()) < 32


@pytest.mark.parametrize("norm", ["none", "post", "pre"])
def test_convolution_units(norm: str) -> None:
    unit, x = ConvUnit(3, 5, norm=norm, dropout=0.2).double().eval(), noise(2, 3, 4, 6)
    for layer in unit.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias)
    y = convolve(unit.conv, normalise(unit.bn, x).relu() if norm == "pre" else x)
    if norm != "pre":
        y = (normalise(unit.bn, y) if norm == "post" else y).relu()
    torch.testing.assert_close(unit(x), y)
    assert isinstance(unit.dropout, MCDropout)
    assert next(iter(unit.state_dict())).startswith("bn" if norm == "pre" else "conv")


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="norm must be 'none', 'post' or 'pre'; got 'group'"):
        ConvUnit(3, 5, norm="group")
