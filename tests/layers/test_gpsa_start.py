"""How gated positional self-attention starts: as the convolution that it claims to be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference.naive import close, on_one_thread
from zoo.layers.gpsa import GatedPositionalSelfAttention

from .making import tokens

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
CERTAIN = 40.0  # sigmoid(40) is 1 in float64


def _box(num_heads: int, width: int) -> Tensor:
    """What local init claims: head i + K*j averages the places nearest (j - c, i - c)."""
    side = round(num_heads**0.5)
    centre = (side - 1) / 2
    reach = torch.arange(-side, side + 1)
    kernels = torch.zeros(num_heads, 2 * side + 1, 2 * side + 1, dtype=torch.float64)
    for i in range(side):
        for j in range(side):
            down, right = (reach - (i - centre)).abs(), (reach - (j - centre)).abs()
            box = (down == down.min())[:, None] & (right == right.min())[None, :]
            kernels[i + side * j] = box / box.sum()
    return kernels.repeat_interleave(width, 0)[:, None]  # (C, 1, 2K + 1, 2K + 1)


@pytest.mark.parametrize("heads", [1, 4, 9, 16])
def test_strong_local_init_is_the_convolution_it_claims(heads: int) -> None:
    width, grid = 2, (5, 6)
    dim = heads * width
    module = GatedPositionalSelfAttention(dim, heads, locality_strength=60.0).double()
    torch.nn.init.constant_(module.gating_param, CERTAIN)
    torch.nn.init.eye_(module.proj.weight)
    x = tokens(30, dim)
    side = round(heads**0.5)
    image = x.transpose(1, 2).reshape(2, dim, *grid)
    image = F.pad(image, (side,) * 4, mode="replicate")  # outside, the nearest place inside
    expected = F.conv2d(image, _box(heads, width), groups=dim)
    close(module(x, grid), expected.flatten(2).transpose(1, 2), 1e-12)


def test_local_init_of_head_i_plus_k_j_points_at_its_offset() -> None:
    weight = GatedPositionalSelfAttention(8, 4, locality_strength=0.5).pos_proj.weight
    expected = [[-0.5, -0.5, -0.5], [-0.5, 0.5, -0.5], [0.5, -0.5, -0.5], [0.5, 0.5, -0.5]]
    assert weight.tolist() == expected


def test_local_init_leaves_heads_beyond_the_square_random() -> None:
    torch.manual_seed(0)
    weight = GatedPositionalSelfAttention(12, 6, locality_strength=2.0).pos_proj.weight
    assert weight[:4, 2].tolist() == [-2.0] * 4
    assert 0 < weight[4:].abs().max() < 2 * 0.02 * 6  # tn(0.02), times the strength


def test_random_init_keeps_the_value_projection_random() -> None:
    module = GatedPositionalSelfAttention(8, 4, use_local_init=False)
    assert not torch.equal(module.v.weight, torch.eye(8))
    assert module.pos_proj.weight.abs().max() < 0.2


def test_gates_start_at_one() -> None:
    assert GatedPositionalSelfAttention(8, 4).gating_param.tolist() == [1.0] * 4
