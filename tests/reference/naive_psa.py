"""Slow twin of positional self-attention, from equation 4 of ConViT (arXiv:2103.10697)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .naive import linear, softmax


def psa(
    x: Tensor,
    grid: tuple[int, int],
    state: Mapping[str, Tensor],
    num_heads: int,
    scale: float | None = None,
    unit: tuple[float, float] = (1.0, 1.0),
) -> tuple[Tensor, Tensor]:
    """softmax_j(q_i . k_j * scale + w . r_ij + b) v: output (B, N, C), attention (B, nh, N, N).

    `unit` is the (vertical, horizontal) length of one patch.
    """
    batch, tokens, _ = x.shape
    qk, values = linear(x, state, "qk"), linear(x, state, "v")
    inner = values.shape[-1]
    width = inner // num_heads
    scale = scale or 1 / math.sqrt(width)
    places = [(y, z) for y in range(grid[0]) for z in range(grid[1])]
    maps, outputs = [], []
    for b in range(batch):
        for head in range(num_heads):
            channels = slice(head * width, (head + 1) * width)
            query, key = qk[b, :, :inner][:, channels], qk[b, :, inner:][:, channels]
            w0, w1, w2 = state["pos_proj.weight"][head]
            rows = []
            for i, (y, z) in enumerate(places):
                logits = []
                for j, (key_y, key_z) in enumerate(places):
                    dy, dx = (key_y - y) * unit[0], (key_z - z) * unit[1]
                    position = w0 * dx + w1 * dy + w2 * (dx**2 + dy**2)
                    logit = (query[i] * key[j]).sum() * scale + position
                    logits.append(logit + state["pos_proj.bias"][head])
                rows.append(torch.stack(softmax(logits)))
            maps.append(torch.stack(rows))
            outputs.append(maps[-1] @ values[b, :, channels])
    attention = torch.stack(maps).reshape(batch, num_heads, tokens, tokens)
    heads = torch.stack(outputs).reshape(batch, num_heads, tokens, width)
    joined = torch.cat([heads[:, head] for head in range(num_heads)], dim=-1)
    return linear(joined, state, "proj"), attention
