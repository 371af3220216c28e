"""Layers, tokens and maps for the tests of positional self-attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.layers import PositionalSelfAttention

STRONG = 2000.0  # exp(-2000) is 0 in float64


def randomise(module: nn.Module, std: float = 0.5, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=std, generator=generator)


def layer(dim: int = 8, num_heads: int = 2, **keywords: Any) -> PositionalSelfAttention:
    """A float64 layer none of whose parameters is at a special value."""
    module = PositionalSelfAttention(dim, num_heads, **keywords).double()
    randomise(module)
    return module


def local_layer(dim: int, num_heads: int, strength: float, **keywords: Any):
    """A float64 layer at its convolutional start, every other parameter random."""
    module = PositionalSelfAttention(
        dim, num_heads, qkv_bias=True, locality_strength=strength, **keywords
    ).double()
    for part in (module.qk, module.v, module.proj):
        randomise(part)
    return module


def tokens(count: int, dim: int = 8, batch: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, count, dim, dtype=torch.float64, generator=generator)


def to_map(x: Tensor, grid: tuple[int, int]) -> Tensor:
    return x.transpose(1, 2).unflatten(2, grid)  # (B, C, H, W)


def to_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)
