"""Attention on maps and in windows against naive twins, padding, and the attention block."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference import naive_maps
from tests.reference.naive import close, gradients, state
from zoo.layers.attention import Attention2d, flatten_windows, unflatten_windows
from zoo.layers.windows import AttentionBlock, LocalAttention

from .making import noise, randomise

SIZES = {"dim_in": 5, "num_heads": 2, "head_dim": 3}


def image(height: int, width: int, batch: int = 2) -> Tensor:
    return noise(batch, 5, height, width)


def local(window: int = 2, **keywords: Any) -> LocalAttention:
    return randomise(LocalAttention(**{**SIZES, "window_size": window, **keywords})).eval()


def weights_of(
    attention: Tensor, size: tuple[int, int], window: int
) -> dict[tuple[int, ...], Tensor]:
    """(B * windows, nh, w * w, w * w) -> weights by pixel, for the pixels of the image."""
    grid = tuple(-(-side // window) for side in size)
    attention = attention.unflatten(0, (-1, grid[0] * grid[1]))
    places = [(y, x) for y in range(size[0]) for x in range(size[1])]
    found = {}
    for b in range(attention.shape[0]):
        for head in range(attention.shape[2]):
            for y, x in places:
                n = (y // window) * grid[1] + x // window
                row = attention[b, n, head, (y % window) * window + x % window]
                for key_y, key_x in places:
                    if (key_y // window, key_x // window) == (y // window, x // window):
                        key = (key_y % window) * window + key_x % window
                        found[b, head, y, x, key_y, key_x] = row[key]
    return found


# Attention2d


@pytest.mark.parametrize(
    ("size", "kv_stride"), [((3, 4), 1), ((1, 5), 1), ((3, 4), 2), ((4, 4), 2), ((3, 4), 3)]
)
def test_attention_on_a_map_equals_the_twin(size: tuple[int, int], kv_stride: int) -> None:
    module = randomise(Attention2d(**SIZES, dim_out=7, kv_stride=kv_stride)).eval()
    x = image(*size)
    out, attention = naive_maps.attention_2d(x, state(module), 2, 3, kv_stride)
    close(module(x), out, 1e-12)
    close(module.attention_weights(x), attention, 1e-12)


def test_a_mask_on_a_map_equals_the_twin() -> None:
    module, x = randomise(Attention2d(**SIZES)).eval(), image(2, 3)
    mask = noise(2, 1, 6, 6, seed=3)
    out, attention = naive_maps.attention_2d(x, state(module), 2, 3, mask=mask)
    close(module(x, mask), out, 1e-12)
    close(module.attention_weights(x, mask), attention, 1e-12)


def test_gradients_on_a_map_equal_the_twin() -> None:
    module, x = randomise(Attention2d(**SIZES, kv_stride=2)).eval(), image(4, 3).requires_grad_()
    inputs = [x, *module.parameters()]
    expected = gradients(naive_maps.attention_2d(x, state(module), 2, 3, 2)[0], inputs)
    for actual, wanted in zip(gradients(module(x), inputs), expected, strict=True):
        close(actual, wanted, 1e-12)


def test_a_map_without_a_single_key_is_refused() -> None:
    with pytest.raises(
        ValueError, match="kv_stride=3 needs a map of at least that side; got 2 x 5"
    ):
        randomise(Attention2d(**SIZES, kv_stride=3)).eval()(image(2, 5))


def test_a_stride_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="kv_stride must be positive; got 0"):
        Attention2d(4, kv_stride=0)


# LocalAttention

FITTING = [(2, 4, 2), (4, 2, 2), (3, 3, 3), (2, 3, 1)]
PADDED = [(3, 4, 2), (5, 3, 2), (1, 1, 2), (2, 2, 5), (4, 5, 3), (1, 7, 3)]


@pytest.mark.parametrize(("height", "width", "window"), FITTING + PADDED)
def test_attention_in_windows_equals_the_twin(height: int, width: int, window: int) -> None:
    module, x = local(window, dim_out=7), image(height, width, batch=1)
    out, weights = naive_maps.local_attention(x, state(module), 2, 3, window)
    close(module(x), out, 1e-12)
    actual = weights_of(module.attention_weights(x), (height, width), window)
    assert actual.keys() == weights.keys()
    close(torch.stack(list(actual.values())), torch.stack(list(weights.values())), 1e-12)


@pytest.mark.parametrize("size", [(2, 4), (3, 4)])
def test_gradients_in_windows_equal_the_twin(size: tuple[int, int]) -> None:
    module, x = local(), image(*size).requires_grad_()
    inputs = [x, *module.parameters()]
    expected = gradients(naive_maps.local_attention(x, state(module), 2, 3, 2)[0], inputs)
    for actual, wanted in zip(gradients(module(x), inputs), expected, strict=True):
        close(actual, wanted, 1e-12)


@pytest.mark.parametrize("size", [(2, 4), (3, 3)])
def test_a_mask_in_windows_equals_the_twin(size: tuple[int, int]) -> None:
    module, x, mask = local(), image(*size), noise(4, 4, seed=3)
    expected = naive_maps.local_attention(x, state(module), 2, 3, 2, mask)[0]
    close(module(x, mask), expected, 1e-12)


def test_windows_without_padding_do_not_notice_it_elsewhere() -> None:
    module, x = local(3), image(8, 7)
    assert torch.equal(module(x)[:, :, :6, :6], module(x[:, :, :6, :6]))


def test_no_pixel_attends_to_padding() -> None:
    module, x = local(3), image(4, 5, batch=1)
    attention = module.attention_weights(x)[-1]  # the window of row 3, columns 3 and 4
    real = torch.zeros(3, 3, dtype=torch.bool)
    real[0, :2] = True
    assert (attention[..., ~real.flatten()] == 0).all()
    close(attention.sum(-1), torch.ones(2, 9, dtype=torch.float64), 1e-12)


def test_what_lies_in_the_padding_cannot_be_seen() -> None:
    module, x = local(3), image(5, 4)
    real = torch.ones(1, 1, 5, 4, dtype=torch.float64)
    bias = module._bias(x, None)
    assert bias.shape == (4 * 2, 9, 9)  # windows and heads
    padded = F.pad(real, (0, 2, 0, 1))
    hidden = flatten_windows(padded, 1, 3)[0, :, :, 0] == 0  # (windows, keys)
    assert (bias.isinf().all(1) == hidden.repeat_interleave(2, 0)).all()


def test_a_window_as_large_as_the_map_is_attention_with_relative_positions() -> None:
    module, x = local(4), image(4, 4)
    mask = module.relative_bias()
    close(module(x), module.attn(x, mask), 1e-12)


def test_windows_of_one_pixel_copy_the_values() -> None:
    module, x = local(1), image(3, 2)
    values = module.attn.to_kv(x).chunk(2, dim=1)[1]
    close(module(x), module.attn.to_out(values), 1e-12)


def test_the_relative_bias_depends_on_key_minus_query() -> None:
    module = local(3)
    bias = module.relative_bias().reshape(3, 3, 3, 3)
    for y, x, key_y, key_x in [(0, 0, 0, 0), (0, 1, 2, 2), (2, 2, 0, 1), (1, 0, 1, 2)]:
        assert bias[y, x, key_y, key_x] == module.pos_embedding[key_y - y + 2, key_x - x + 2]


def test_only_parameters_are_in_the_state_dict() -> None:
    assert list(local().state_dict()) == [
        "pos_embedding",
        "attn.to_q.weight",
        "attn.to_kv.weight",
        "attn.to_out.0.weight",
        "attn.to_out.0.bias",
    ]


@pytest.mark.parametrize("window", [None, 2])
def test_windows_and_heads_come_back_in_their_places(window: int | None) -> None:
    x = noise(2, 6, 4, 6)
    flat = flatten_windows(x, 3, window)
    assert flat.shape == ((2, 3, 24, 2) if window is None else (2, 18, 4, 2))
    assert torch.equal(unflatten_windows(flat, 3, (4, 6), window), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_padded_windows_run_in_half_precision(dtype: torch.dtype) -> None:
    out = local(3).to(dtype)(image(4, 5).to(dtype))
    assert out.dtype == dtype
    assert out.isfinite().all()


# AttentionBlock


@pytest.mark.parametrize("preact", [True, False])
@pytest.mark.parametrize(("in_channels", "channels"), [(8, 4), (8, 2), (8, 8)])
def test_the_block_is_its_equation(preact: bool, in_channels: int, channels: int) -> None:
    block = randomise(
        AttentionBlock(in_channels, channels, 1, 2, preact, 2, head_dim=3, window_size=2)
    ).eval()
    x = noise(2, in_channels, 3, 4)
    if preact:
        a = F.gelu(block.norm1(x))
        skip = x if in_channels == 2 * channels else F.conv2d(a, block.shortcut[0].weight)
        out = skip + block.attn(block.norm2(F.conv2d(a, block.conv.weight)))
    else:
        skip = x
        if in_channels != 2 * channels:
            skip = block.shortcut[1](F.conv2d(x, block.shortcut[0].weight))
        a = F.gelu(block.conv[1](F.conv2d(x, block.conv[0].weight)))
        out = skip + block.norm(block.attn(a))
    close(block(x), out, 1e-12)


def test_an_attention_block_with_a_stride_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"cannot reduce the map; got stride=2\. Let a convolution"
    ):
        AttentionBlock(8, 8, stride=2)
