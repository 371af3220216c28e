"""Layers, tokens and masks for the tests of convolutional self-attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.reference import naive_csan
from tests.reference.naive import state
from zoo.layers.csan import ConvolutionalSelfAttention

from .making import noise, randomise


def layer(
    half_width: int | None = 2, head_offsets: tuple[int, ...] = (-1, 0, 1), **keywords: Any
) -> ConvolutionalSelfAttention:
    """A float64 layer of 3 heads whose logits are large enough to matter."""
    sizes = {"dim": 6, "num_heads": 3, "half_width": half_width, "head_offsets": head_offsets}
    return randomise(ConvolutionalSelfAttention(**{**sizes, **keywords}))


def tokens(count: int, batch: int = 2, seed: int = 1) -> Tensor:
    return noise(batch, count, 6, seed=seed)


def twin(
    module: ConvolutionalSelfAttention, x: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    width = x.shape[1] if module.half_width is None else module.half_width
    settings = (width, module.head_offsets, module.neighbours)
    return naive_csan.csan(x, state(module), 3, *settings, bias)


def lengths_mask(*lengths: int, tokens: int) -> Tensor:
    return torch.arange(tokens)[None, :] < torch.tensor(lengths)[:, None]


def excluding(mask: Tensor, tokens: int) -> Tensor:
    """The mask of tokens (B, N) as the twin's bias (B, nh, N, N)."""
    bias = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)
    return bias[:, None, None, :].expand(-1, 3, tokens, -1)
