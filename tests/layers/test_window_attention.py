"""Token and window attention: against loops, masks of shifted and padded windows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.reference.naive import on_one_thread
from zoo.layers.attention import Attention1d
from zoo.layers.windows import WindowAttention, from_windows, relative_bias, to_windows

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def window_attention(seed: int = 0, **kwargs: object) -> WindowAttention:
    torch.manual_seed(seed)
    module = WindowAttention(6, num_heads=2, head_dim=3, **kwargs).double().eval()
    torch.nn.init.normal_(module.pos_embedding)
    return module


def attend(module: Attention1d, x: Tensor, bias: Tensor) -> Tensor:
    """One sequence (N, C), one logit at a time."""
    tokens, (heads, width) = len(x), (module.num_heads, module.head_dim)
    q, k, v = (x @ module.to_qkv.weight.T).reshape(tokens, 3, heads, width).unbind(1)
    out = torch.zeros(tokens, heads, width, dtype=x.dtype)
    for h in range(heads):
        for i in range(tokens):
            logits = [q[i, h] @ k[j, h] / math.sqrt(width) + bias[i, j] for j in range(tokens)]
            weights = torch.stack(logits).softmax(0)
            out[i, h] = sum(w * v[j, h] for j, w in enumerate(weights))
    linear = module.to_out[0]
    return out.flatten(1) @ linear.weight.T + linear.bias


def naive(module: WindowAttention, image: Tensor, *, exact: bool, mask: Tensor | None) -> Tensor:
    """One image (C, H, W): every pixel finds its window and the keys that it may see."""
    w, d = module.window_size, module.shift
    height, width = image.shape[1:]
    rows, columns = -(-height // w), -(-width // w)
    out = torch.full((module.attn.to_out[0].out_features, height, width), math.nan).double()
    listed = list(range(rows * columns))[-rows - 1 :: rows]  # upstream's left-right windows
    for window in range(rows * columns):
        top, left = divmod(window, columns)
        places = []  # (place in the image, place in the window)
        for y in range(w):
            for x in range(w):
                source = ((top * w + y + d) % (rows * w), (left * w + x + d) % (columns * w))
                if source[0] < height and source[1] < width:
                    places.append((source, (y, x)))
        right = left == columns - 1 if exact else window in listed
        bias = torch.zeros(len(places), len(places), dtype=torch.float64)
        for i, (_, (y, x)) in enumerate(places):
            for j, (_, (v, u)) in enumerate(places):
                bias[i, j] = module.pos_embedding[v - y + w - 1, u - x + w - 1]
                bias[i, j] += 0 if mask is None else mask[y * w + x, v * w + u]
                below = top == rows - 1 and d and (y >= w - d) != (v >= w - d)
                beside = right and d and (x >= w - d) != (u >= w - d)
                if below or beside:
                    bias[i, j] = -math.inf
        tokens = torch.stack([image[:, s[0], s[1]] for s, _ in places])
        for (source, _), value in zip(places, attend(module.attn, tokens, bias), strict=True):
            out[:, source[0], source[1]] = value
    return out


def test_token_attention_is_softmax_attention() -> None:
    module = Attention1d(6, 5, num_heads=2, head_dim=4).double()
    x, mask = noise(2, 7, 6), noise(7, 7, seed=1)
    for sequence, out in zip(x, module(x, mask), strict=True):
        torch.testing.assert_close(out, attend(module, sequence, mask))


def test_token_attention_weights_sum_to_one_and_give_the_output() -> None:
    module, x = Attention1d(6, num_heads=2, head_dim=4).double(), noise(2, 7, 6)
    weights = module.attention_weights(x)
    assert weights.shape == (2, 2, 7, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    v = module.to_qkv(x).unflatten(-1, (3, 2, 4))[:, :, 2].transpose(1, 2)
    out = module.to_out((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(x), out)


def test_windows_are_cut_row_by_row_and_put_back() -> None:
    x = torch.arange(2 * 24.0).reshape(2, 1, 4, 6)
    windows = to_windows(x, 2)
    assert windows.shape == (12, 4, 1)
    assert windows[1, :, 0].tolist() == [2, 3, 8, 9]
    assert windows[6, :, 0].tolist() == [24, 25, 30, 31]
    assert torch.equal(from_windows(windows, 2, (2, 3)), x)


def test_the_table_is_read_at_key_minus_query() -> None:
    table = torch.arange(25.0).reshape(5, 5)
    bias = relative_bias(table, 3)
    assert bias.shape == (9, 9)
    assert bias[0, 0] == bias[8, 8] == table[2, 2]
    assert bias[0, 5] == table[2 + 1, 2 + 2]
    assert bias[5, 0] == table[2 - 1, 2 - 2]


SIZES = [(4, 4), (8, 8), (4, 8), (12, 8), (5, 7), (3, 2), (1, 1), (9, 4)]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_it_is_attention_in_every_window(size: tuple[int, int], shifted: bool, exact: bool) -> None:
    module = window_attention(window_size=4, shifted=shifted, exact_mask=exact)
    x = noise(2, 6, *size)
    out = module(x)
    for image, actual in zip(x, out, strict=True):
        torch.testing.assert_close(actual, naive(module, image, exact=exact, mask=None))


def test_a_given_mask_is_added_in_every_window() -> None:
    module, mask = window_attention(window_size=2, shifted=True), noise(4, 4, seed=2)
    x = noise(1, 6, 6, 4)
    torch.testing.assert_close(module(x, mask)[0], naive(module, x[0], exact=False, mask=mask))


def wrapped_pairs(module: WindowAttention, side: int) -> int:
    """How many windows let the first column see the last one."""
    weights = module.attention_weights(noise(1, 6, side, side))
    window = module.window_size
    half = window - window // 2
    columns = torch.arange(window * window) % window
    across = (columns[:, None] < half) & (columns[None, :] >= half)
    grid = side // window
    last = weights.unflatten(0, (grid, grid))[:, -1]  # (n1, nh, w * w, w * w)
    return sum(bool((rows[:, across] > 0).any()) for rows in last)


@pytest.mark.parametrize(("side", "leaks"), [(4, 0), (8, 0), (12, 1), (16, 2)])
def test_the_originals_mask_leaks_on_large_grids(side: int, leaks: int) -> None:
    module = window_attention(window_size=4, shifted=True)
    assert wrapped_pairs(module, side) == leaks


@pytest.mark.parametrize("side", [4, 8, 12, 16])
def test_the_exact_mask_never_leaks(side: int) -> None:
    module = window_attention(window_size=4, shifted=True, exact_mask=True)
    assert wrapped_pairs(module, side) == 0


@pytest.mark.parametrize("side", [4, 8])
def test_both_masks_agree_on_small_grids(side: int) -> None:
    upstream = window_attention(window_size=4, shifted=True)
    exact = window_attention(window_size=4, shifted=True, exact_mask=True)
    x = noise(1, 6, side, side)
    assert torch.equal(upstream(x), exact(x))


@pytest.mark.parametrize("shifted", [False, True])
def test_padding_never_makes_gradients_infinite(shifted: bool) -> None:
    module = window_attention(window_size=4, shifted=shifted)
    x = noise(1, 6, 5, 3).requires_grad_()
    module(x).square().sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def test_padding_takes_no_attention() -> None:
    module = window_attention(window_size=4)
    weights = module.attention_weights(noise(1, 6, 3, 4))
    assert weights.shape == (1, 2, 16, 16)
    assert not weights[..., 12:].any()
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


def test_windows_without_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="window_size must be positive; got 0"):
        WindowAttention(6, window_size=0)
