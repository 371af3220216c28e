"""Small models with known answers, for tests that must not name an architecture."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """Blocks on maps, then the mean over positions and a linear layer."""

    def __init__(self, *blocks: nn.Module, width: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean((2, 3)))


class Wrapped(nn.Module):
    """A block with one part, so that it counts as a block."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


class FixedAttention(nn.Module):
    """Attention that is the same for every image: `matrix` is (nh, N, N)."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def attention_weights(self, x: Tensor) -> Tensor:
        return self.matrix.expand(len(x), -1, -1, -1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.attention_weights(x).mean(1)  # (B, N, N)
        return (x.flatten(2) @ weights.transpose(1, 2)).view_as(x)


def blur(width: int) -> nn.Module:
    """A depth-wise 3 x 3 average with periodic borders: low-pass."""
    return _depthwise(width, torch.full((3, 3), 1 / 9))


def laplacian(width: int) -> nn.Module:
    """Identity minus half of a blur: high-pass."""
    kernel = -torch.full((3, 3), 0.5 / 9)
    kernel[1, 1] += 1
    return _depthwise(width, kernel)


def _depthwise(width: int, kernel: Tensor) -> nn.Module:
    conv = nn.Conv2d(width, width, 3, padding=1, padding_mode="circular", groups=width, bias=False)
    with torch.no_grad():
        conv.weight.copy_(kernel.expand_as(conv.weight))
    return conv


def batches(count: int = 3, size: int = 4, width: int = 4, side: int = 8) -> list:
    """Noise and labels of three classes."""
    generator = torch.Generator().manual_seed(5)
    return [
        (
            torch.randn(size, width, side, side, generator=generator),
            torch.arange(size) % 3,
        )
        for _ in range(count)
    ]
