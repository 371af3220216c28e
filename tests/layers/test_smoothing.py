"""Smoothing blocks: the functions, the blur as loops, sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from zoo.layers.smoothing import (
    SMOOTHING_KINDS,
    Blur,
    Downsample,
    SamePad,
    SmoothingBlock,
    make_blur,
)

NO_BLUR = ("tanh", "scaling", "relu")


def noise(*shape: int) -> Tensor:
    return 4 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def naive_average(x: Tensor) -> Tensor:
    """Mean of each 2 x 2 window of a map with a frame of zeros."""
    batch, chans, height, width = x.shape
    out = torch.zeros(batch, chans, height + 1, width + 1, dtype=x.dtype)
    for i in range(height + 1):
        for j in range(width + 1):
            for y in (i - 1, i):
                for z in (j - 1, j):
                    if 0 <= y < height and 0 <= z < width:
                        out[:, :, i, j] += x[:, :, y, z] / 4
    return out


def naive_blur(x: Tensor, sfilter: tuple[int, ...]) -> Tensor:
    """Correlation with f f^T / sum, the nearest edge pixel beyond the map."""
    n, (height, width) = len(sfilter), x.shape[2:]
    before, total = (n - 1) // 2, sum(sfilter) ** 2
    out = torch.zeros_like(x)
    for i in range(height):
        for j in range(width):
            for a in range(n):
                for b in range(n):
                    y = min(max(i + a - before, 0), height - 1)
                    z = min(max(j + b - before, 0), width - 1)
                    out[:, :, i, j] += x[:, :, y, z] * sfilter[a] * sfilter[b] / total
    return out


def test_the_default_blur_averages_and_grows_the_map_by_one() -> None:
    x = noise(2, 3, 4, 5)
    torch.testing.assert_close(make_blur(3)(x), naive_average(x))


@pytest.mark.parametrize("sfilter", [(1, 1), (1, 2, 1), (1, 3, 3, 1), (1, 4, 6, 4, 1)])
def test_other_blurs_are_correlations_that_keep_the_map(sfilter: tuple[int, ...]) -> None:
    x = noise(2, 3, 5, 6)
    blur = make_blur(3, sfilter, "replicate").double()
    torch.testing.assert_close(blur(x), naive_blur(x, sfilter))


def test_the_filter_is_frozen_and_in_the_state_dict() -> None:
    blur = Blur(5, (1, 2, 1))
    assert list(blur.state_dict()) == ["filter"]
    assert blur.filter.shape == (5, 1, 3, 3)
    assert not blur.filter.requires_grad
    assert blur.filter.is_contiguous()
    torch.testing.assert_close(blur.filter.sum((1, 2, 3)), torch.ones(5))


@pytest.mark.parametrize("pad_mode", ["zero", "constant"])
def test_zero_and_constant_padding_are_the_same(pad_mode: str) -> None:
    x = noise(1, 2, 4, 4)
    expected = torch.nn.functional.pad(x, (1, 2, 1, 2))
    assert torch.equal(SamePad(4, pad_mode)(x), expected)


def expected(kind: str, v: float, t: float) -> float:
    """The squashing functions for one number."""
    return {
        "tanh": max(t * math.tanh(v / t), 0),
        "sigmoid": max(4 * t * (1 / (1 + math.exp(-v / t)) - 0.5), 0),
        "relu": min(max(v, 0), t),
        "scaling": v / t,
        "blur": v,
    }[kind]


@pytest.mark.parametrize("temp", [None, 1.5])
@pytest.mark.parametrize("kind", ["tanh", "sigmoid_blur", "relu", "scaling", "blur"])
def test_squashing_functions(kind: str, temp: float | None) -> None:
    x = noise(1, 2, 3, 3)
    block = SmoothingBlock(2, kind, temp)
    block.blur = torch.nn.Identity()
    name = kind.removesuffix("_blur")
    t = temp or {"relu": 6, "scaling": 5}.get(name, 10)
    values = torch.tensor([expected(name, float(v), t) for v in x.flatten()], dtype=x.dtype)
    torch.testing.assert_close(block(x).flatten(), values)


def test_softmax_runs_over_channels() -> None:
    x = noise(1, 3, 2, 2)
    block = SmoothingBlock(3, "softmax_blur", 2.0, sfilter=(1,))
    y = block.double()(x)
    torch.testing.assert_close(y.sum(1), torch.full((1, 2, 2), 2.0, dtype=x.dtype))
    torch.testing.assert_close(y[0, :, 0, 0], 2 * torch.softmax(x[0, :, 0, 0] / 2, 0))


@pytest.mark.parametrize("kind", SMOOTHING_KINDS)
def test_kinds_and_their_keys(kind: str) -> None:
    block = SmoothingBlock(4, kind, sfilter=(1, 2, 1)).eval()
    keys = {key.partition(".")[0] for key in block.state_dict()}
    assert keys == ({"bn"} if kind.startswith("bn") else set()) | (
        set() if kind in NO_BLUR else {"blur"}
    )
    assert block(torch.randn(2, 4, 5, 6)).shape == (2, 4, 5, 6)


@pytest.mark.parametrize("kind", SMOOTHING_KINDS)
def test_the_default_filter_grows_the_map(kind: str) -> None:
    grown = (2, 4, 5, 6) if kind in NO_BLUR else (2, 4, 6, 7)
    assert SmoothingBlock(4, kind).eval()(torch.randn(2, 4, 5, 6)).shape == grown


def test_unknown_kinds_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"sblock must be one of tanh_blur, .*; got 'tan_blur'"):
        SmoothingBlock(4, "tan_blur")


@pytest.mark.parametrize("temp", [0.0, -1.0])
def test_temperatures_are_positive(temp: float) -> None:
    with pytest.raises(ValueError, match="temp must be positive"):
        SmoothingBlock(4, temp=temp)


@pytest.mark.parametrize("strides", [2, (2, 3), (1, 1), (3, 2)])
def test_downsampling_takes_the_nearest_pixels(strides: int | tuple[int, int]) -> None:
    x = noise(1, 2, 7, 8)
    s0, s1 = (strides, strides) if isinstance(strides, int) else strides
    height, width = math.ceil(7 / s0), math.ceil(8 / s1)
    rows = [i * 7 // height for i in range(height)]
    columns = [j * 8 // width for j in range(width)]
    assert torch.equal(Downsample(strides)(x), x[:, :, rows][:, :, :, columns])
