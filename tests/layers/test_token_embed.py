"""Patch embeddings, class token, positions, and the ensemble of whole models."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from zoo.layers.embeddings import (
    ClassToken,
    ConvEmbedding,
    PatchEmbedding,
    PositionEmbedding,
    TokenEmbedding,
)
from zoo.layers.mc_dropout import Ensemble


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def patch_by_patch(
    x: Tensor, linear: nn.Linear, patch: int, stride: int, grid: tuple[int, int], order: str
) -> Tensor:
    """Every token from its own patch; `order` of the flattened pixels is "hwc" or "chw"."""
    tokens = []
    for i in range(grid[0]):
        for j in range(grid[1]):
            piece = x[:, :, i * stride : i * stride + patch, j * stride : j * stride + patch]
            piece = piece.permute(0, 2, 3, 1) if order == "hwc" else piece
            tokens.append(piece.flatten(1) @ linear.weight.T + linear.bias)
    return torch.stack(tokens, 1)


def test_patches_are_flattened_channel_last() -> None:
    module, x = PatchEmbedding(2, 5).double(), noise(2, 3, 4, 6)
    expected = patch_by_patch(x, module.patch_embedding[1], 2, 2, (2, 3), "hwc")
    torch.testing.assert_close(module(x), expected)
    assert module.grid_of((4, 6)) == (2, 3)


def test_partial_patches_are_padded_with_zeros() -> None:
    module, x = PatchEmbedding((2, 3), 5).double(), noise(1, 3, 3, 4)
    padded = torch.zeros(1, 3, 4, 6, dtype=x.dtype)
    padded[:, :, :3, :4] = x
    assert torch.equal(module(x), module(padded))
    assert module.grid_of((3, 4)) == (2, 2)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(4, 6), (5, 7), (3, 3)])
def test_overlapping_patches_are_flattened_channel_first(
    size: tuple[int, int], stride: int
) -> None:
    module, x = ConvEmbedding(3, 5, in_chans=2, stride=stride).double(), noise(2, 2, *size)
    grid = tuple((side - 3) // stride + 1 for side in size)
    expected = patch_by_patch(x, module.patch_embedding[2], 3, stride, grid, "chw")
    torch.testing.assert_close(module(x), expected)
    assert module.grid_of(size) == grid


def test_images_smaller_than_a_patch_are_padded_to_it() -> None:
    module, x = ConvEmbedding(4, 5, stride=2).double(), noise(1, 3, 2, 5)
    padded = torch.zeros(1, 3, 4, 5, dtype=x.dtype)
    padded[:, :, :2] = x
    assert torch.equal(module(x), module(padded))
    assert module.grid_of((2, 5)) == (1, 1)


def test_the_class_token_comes_first() -> None:
    module, x = ClassToken(4).double(), noise(3, 5, 4)
    y = module(x)
    assert torch.equal(y[:, 1:], x)
    assert torch.equal(y[:, 0], module.cls_token[0].expand(3, -1))


@pytest.mark.parametrize("class_token", [False, True])
def test_positions_are_added_and_those_of_patches_resampled(class_token: bool) -> None:
    module = PositionEmbedding((2, 2), 4, class_token).double()
    extra = int(class_token)
    x = noise(1, 4 + extra, 4)
    assert torch.equal(module(x), x + module.pos_embedding)
    assert torch.equal(module(x, (2, 2)), module(x))
    nn.init.constant_(module.pos_embedding[:, extra:], 0.5)
    larger = torch.zeros(1, 15 + extra, 4, dtype=x.dtype)
    out = module(larger, (3, 5))
    torch.testing.assert_close(out[:, extra:], torch.full_like(out[:, extra:], 0.5))
    assert torch.equal(out[:, :extra], module.pos_embedding[:, :extra])


def test_an_oblong_image_gives_an_oblong_grid_of_tokens() -> None:
    module = TokenEmbedding(PatchEmbedding(4, 6), 6, (8, 8)).eval()
    assert module(torch.randn(2, 3, 8, 20)).shape == (2, 1 + 2 * 5, 6)


def test_the_ensemble_sums_probabilities() -> None:
    members = [nn.Linear(3, 4).double() for _ in range(3)]
    ensemble, x = Ensemble(members), noise(2, 3)
    total = sum(member(x).softmax(-1) for member in members)
    torch.testing.assert_close(ensemble(x).exp(), total)
    torch.testing.assert_close(ensemble(x).softmax(-1), total / 3)
    assert math.isclose(float(ensemble(x).detach().exp().sum(-1)[0]), 3)
    assert next(iter(ensemble.state_dict())) == "models.0.weight"
