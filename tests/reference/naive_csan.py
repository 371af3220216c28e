"""Slow twin of convolutional self-attention (Yang et al. 2019, arXiv:1904.03107), loop by loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .naive import linear, softmax


def beyond(head: int, heads: int, wraps: bool) -> int:
    """The head that stands for one that may not exist."""
    if wraps:
        return head % heads
    return max(0, min(head, heads - 1))


def core(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    half_width: int,
    head_offsets: Sequence[int],
    neighbours: str = "wrap_keys",
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Outputs (B, nh, N, hd) and weights (B, nh, N, m * N) of given q, k and v, nothing scaled.

    `bias` (B, nh, N, N) is added to the logits of every neighbouring head; -inf excludes a key.
    A query without any key gives zeros.
    """
    batch, heads, tokens, width = q.shape
    key_wraps, value_wraps = neighbours != "clamp", neighbours == "wrap"
    if bias is None:
        bias = q.new_zeros(batch, heads, tokens, tokens)
    outputs, weights = [], []
    for b, head, t in itertools.product(range(batch), range(heads), range(tokens)):
        logits, values, places = [], [], []
        for place, (offset, s) in enumerate(itertools.product(head_offsets, range(tokens))):
            if abs(t - s) <= half_width and float(bias[b, head, t, s]) > -math.inf:
                key = k[b, beyond(head + offset, heads, key_wraps), s]
                logits.append((q[b, head, t] * key).sum() + bias[b, head, t, s])
                values.append(v[b, beyond(head + offset, heads, value_wraps), s])
                places.append(place)
        row, out = q.new_zeros(len(head_offsets) * tokens), q.new_zeros(width)
        shares = softmax(logits) if logits else []
        for share, value, place in zip(shares, values, places, strict=True):
            row = row.index_put((torch.tensor(place),), share)
            out = out + share * value
        weights.append(row)
        outputs.append(out)
    return torch.stack(outputs).reshape(q.shape), torch.stack(weights).reshape(*q.shape[:3], -1)


def csan(
    x: Tensor,
    state: Mapping[str, Tensor],
    num_heads: int,
    half_width: int,
    head_offsets: Sequence[int],
    neighbours: str = "wrap_keys",
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The whole layer: output (B, N, C') and weights (B, nh, N, m * N)."""
    q, k, v = linear(x, state, "qkv").chunk(3, dim=-1)
    width = q.shape[-1] // num_heads
    q, k, v = (
        torch.stack([t[..., h * width : (h + 1) * width] for h in range(num_heads)], dim=1)
        for t in (q / math.sqrt(width), k, v)
    )
    out, weights = core(q, k, v, half_width, head_offsets, neighbours, bias)
    joined = torch.cat([out[:, h] for h in range(num_heads)], dim=-1)
    return linear(joined, state, "proj"), weights
