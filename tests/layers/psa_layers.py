"""Layers, tokens and maps for the tests of positional self-attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from zoo.layers.psa import PositionalSelfAttention

from .making import randomise

STRONG = 2000.0  # exp(-2000) is 0 in float64


def layer(dim: int = 8, num_heads: int = 2, **keywords: Any) -> PositionalSelfAttention:
    """A float64 layer none of whose parameters is at a special value."""
    return randomise(PositionalSelfAttention(dim, num_heads, **keywords), 0.5)


def local_layer(dim: int, num_heads: int, strength: float, **keywords: Any):
    """A float64 layer at its convolutional start, every other parameter random."""
    module = PositionalSelfAttention(
        dim, num_heads, qkv_bias=True, locality_strength=strength, **keywords
    ).double()
    for part in (module.qk, module.v, module.proj):
        randomise(part, 0.5)
    return module


def to_map(x: Tensor, grid: tuple[int, int]) -> Tensor:
    return x.transpose(1, 2).unflatten(2, grid)  # (B, C, H, W)


def to_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)
