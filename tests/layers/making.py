"""Float64 layers and inputs for the tests of layers, all from seeds of their own."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def randomise(module: Module, std: float = 1.0, seed: int = 0) -> Module:
    """The module in float64, none of whose parameters is at a special value.

    A deviation of 1 makes logits that are large enough to matter.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.normal_(std=std, generator=generator)
    return module


def noise(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def tokens(count: int, dim: int = 8, batch: int = 2) -> Tensor:
    return noise(batch, count, dim)
