"""Slow twin of convolutional self-attention (Yang et al. 2019, arXiv:1904.03107), loop by loop."""

from __future__ import annotations

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
    batch, heads, tokens, _ = q.shape
    key_wraps, value_wraps = neighbours != "clamp", neighbours == "wrap"
    outputs, weights = [], []
    for b in range(batch):
        for head in range(heads):
            for t in range(tokens):
                logits, values, places = [], [], []
                for block, offset in enumerate(head_offsets):
                    key_head = beyond(head + offset, heads, key_wraps)
                    value_head = beyond(head + offset, heads, value_wraps)
                    for s in range(tokens):
                        extra = 0.0 if bias is None else bias[b, head, t, s]
                        if abs(t - s) > half_width or float(extra) == -math.inf:
                            continue
                        logits.append((q[b, head, t] * k[b, key_head, s]).sum() + extra)
                        values.append(v[b, value_head, s])
                        places.append(block * tokens + s)
                row = torch.zeros(len(head_offsets) * tokens, dtype=q.dtype)
                out = torch.zeros_like(q[b, head, t])
                if logits:
                    shares = softmax(logits)
                    row = row.index_put((torch.tensor(places),), torch.stack(shares))
                    out = sum(
                        (share * value for share, value in zip(shares, values, strict=True)), out
                    )
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
