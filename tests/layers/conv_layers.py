"""Layers, images and masks for the tests of two-dimensional convolutional attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tests.reference import naive
from tests.reference.naive import state
from zoo.layers.conv_attention import ConvAttention2d

from .making import noise, randomise


def layer(seed: int = 0, **keywords: Any) -> ConvAttention2d:
    """A float64 layer of two heads whose logits are large enough to matter."""
    sizes = {"dim_in": 6, "num_heads": 2, "head_dim": 4}
    return randomise(ConvAttention2d(**{**sizes, **keywords}), seed=seed)


def image(height: int, width: int, batch: int = 2) -> Tensor:
    return noise(batch, 6, height, width)


def random_mask(*shape: int) -> Tensor:
    return noise(*shape, seed=3)


def twin(module: ConvAttention2d, x: Tensor, **keywords: Any) -> tuple[Tensor, Tensor]:
    return naive.conv_attention(
        x, state(module), 2, 4, module.kernel_size, module.dilation, **keywords
    )
