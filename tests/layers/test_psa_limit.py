"""Positional self-attention at large locality strength: a convolution, and no content."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference.naive import close, gradients, on_one_thread
from zoo.layers.gpsa import GatedPositionalSelfAttention
from zoo.layers.psa import PositionalSelfAttention

from .making import randomise, tokens
from .psa_layers import STRONG, local_layer, to_map, to_tokens

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)


# The limit


def convolution_by_hand(module: PositionalSelfAttention, side: int, x: Tensor) -> Tensor:
    """Every tap is proj_h @ v_h, heads ordered by columns; the border is repeated outwards."""
    dim, heads = module.proj.weight.shape[0], module.num_heads
    proj = module.proj.weight.reshape(dim, heads, -1)
    v = module.v.weight.reshape(heads, -1, dim)
    kernel = torch.zeros(dim, dim, side, side, dtype=torch.float64)
    for row in range(side):
        for column in range(side):
            head = row + side * column
            kernel[:, :, row, column] = proj[:, head] @ v[head]
    bias = module.proj.bias + module.proj.weight @ module.v.bias
    return F.conv2d(F.pad(x, (side // 2,) * 4, mode="replicate"), kernel, bias)


@pytest.mark.parametrize("grid", [(5, 6), (7, 3), (2, 2)])
def test_with_large_strength_psa_is_the_convolution_of_its_taps(grid: tuple[int, int]) -> None:
    module = local_layer(18, 9, STRONG)
    x = tokens(grid[0] * grid[1], 18)
    out = to_map(module(x, grid), grid)
    close(out, convolution_by_hand(module, 3, to_map(x, grid)), 1e-12)


def test_away_from_the_border_it_is_a_convolution_without_any_padding() -> None:
    module, grid = local_layer(18, 9, STRONG), (5, 6)
    x, conv = tokens(30, 18), module.limit_convolution()
    inside = to_map(module(x, grid), grid)[:, :, 1:-1, 1:-1]
    close(inside, F.conv2d(to_map(x, grid), conv.weight, conv.bias), 1e-12)
    zero_padded = F.conv2d(to_map(x, grid), conv.weight, conv.bias, padding=1)
    border = (to_map(module(x, grid), grid) - zero_padded)[:, :, 0].abs().min()
    assert border > 1e-6  # it is not zero padding: borders are repeated


@pytest.mark.parametrize("heads", [1, 9, 25])
def test_the_limit_convolution_is_what_the_layer_becomes(heads: int) -> None:
    module, grid = local_layer(2 * heads, heads, STRONG), (6, 5)
    x = tokens(30, 2 * heads)
    close(module(x, grid), to_tokens(module.limit_convolution()(to_map(x, grid))), 1e-12)


def test_the_difference_from_the_convolution_vanishes_as_the_strength_grows() -> None:
    x, errors = tokens(30, 18), []
    for strength in (1.0, 10.0, 100.0, 1000.0):
        module = local_layer(18, 9, strength)
        wanted = to_tokens(module.limit_convolution()(to_map(x, (5, 6))))
        errors.append(float((module(x, (5, 6)) - wanted).detach().abs().max()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1
    assert errors[-1] < 1e-12


def test_in_the_limit_the_gradient_is_that_of_the_convolution() -> None:
    module, x = local_layer(18, 9, STRONG), tokens(20, 18).requires_grad_()
    wanted = gradients(to_tokens(module.limit_convolution()(to_map(x, (4, 5)))), [x])[0]
    close(gradients(module(x, (4, 5)), [x])[0], wanted, 1e-12)


def test_every_tap_has_at_most_the_rank_of_the_head_width() -> None:
    taps = local_layer(18, 9, STRONG).limit_convolution().weight.permute(2, 3, 0, 1)
    assert set(torch.linalg.matrix_rank(taps).flatten().tolist()) == {2}  # head_dim = 18 / 9


def test_heads_as_wide_as_the_tokens_express_any_convolution() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1, padding_mode="replicate").double()
    randomise(conv, 0.5)
    assert int(torch.linalg.matrix_rank(conv.weight.permute(2, 3, 0, 1)).min()) == 4
    module = PositionalSelfAttention(4, 9, head_dim=4, locality_strength=STRONG).double()
    randomise(module.qk, 0.5)
    with torch.no_grad():  # v starts as nine identities, so the taps are the output projection
        taps = conv.weight.permute(0, 3, 2, 1).flatten(1, 2)  # head row + 3 * column
        module.proj.weight.copy_(taps.flatten(1))
        module.proj.bias.copy_(conv.bias)
    x = tokens(30, 4)
    close(module(x, (5, 6)), to_tokens(conv(to_map(x, (5, 6)))), 1e-12)


def test_centres_of_ones_own_make_a_kernel_of_any_shape() -> None:
    offsets = ((0, 0), (1, 0), (0, 1), (1, 1))  # the 2 x 2 kernel at integer places
    module = local_layer(8, 4, STRONG, centres=offsets)
    x, grid = tokens(12), (3, 4)
    image = F.pad(to_map(x, grid), (0, 1, 0, 1), mode="replicate")
    proj = module.proj.weight.reshape(8, 4, 2)
    taps = torch.stack([proj[:, h] @ module.v.weight[2 * h : 2 * h + 2] for h in range(4)], -1)
    bias = module.proj.bias + module.proj.weight @ module.v.bias
    close(module(x, grid), to_tokens(F.conv2d(image, taps.unflatten(2, (2, 2)), bias)), 1e-12)
    close(module(x, grid), to_tokens(module.limit_convolution()(to_map(x, grid))), 1e-12)


def test_heads_at_the_same_place_add_their_taps() -> None:
    module = local_layer(4, 2, STRONG, centres=((1, -2), (1, -2)))
    conv = module.limit_convolution()
    tap = module.proj.weight @ module.v.weight
    close(conv.weight[:, :, 0, 3], tap, 1e-14)
    assert int(conv.weight.ne(0).any(0).any(0).sum()) == 1
    x = tokens(12, 4)
    close(module(x, (4, 3)), to_tokens(conv(to_map(x, (4, 3)))), 1e-12)


def test_half_integer_centres_are_shared_by_their_nearest_places() -> None:
    module = local_layer(8, 4, STRONG)
    weights = module.attention_weights(tokens(16), (4, 4))[:, 0, 5]  # (1, 1) looks up and left
    looked_at = weights[:, [0, 1, 4, 5]]
    assert (looked_at > 0).all()
    close(looked_at.sum(-1), torch.ones(2, dtype=torch.float64), 1e-14)


def test_the_limit_of_half_integer_centres_is_refused() -> None:
    with pytest.raises(ValueError, match=r"only for integer centres .* \[\[-0.5, -0.5\]"):
        local_layer(8, 4, 1.0).limit_convolution()
    with pytest.raises(ValueError, match="positive strengths"):
        local_layer(2, 1, -1.0).limit_convolution()


# The content term


@pytest.mark.parametrize("gates", [False, True])
def test_content_collapses_at_large_strength_without_gates_and_not_with_them(gates: bool) -> None:
    """Why ConViT has gates: the softmax of a sum ignores the smaller term (section 3)."""
    influence = []
    for strength in (0.1, 1.0, 10.0, 100.0):
        module = GatedPositionalSelfAttention(
            18, 9, locality_strength=strength, gating="learned" if gates else "none"
        ).double()
        randomise(module.qk, 0.5)
        x = tokens(30, 18)
        before = module.attention_weights(x, (5, 6))
        nn.init.zeros_(module.qk.weight)
        influence.append(float((module.attention_weights(x, (5, 6)) - before).detach().abs().max()))
    assert influence[0] > 0.05
    if gates:
        assert min(influence) > 0.05  # (1 - sigmoid(1)) of the content term is always there
    else:
        assert influence[-1] < 1e-12


def test_queries_and_keys_stop_learning_at_large_strength_without_gates() -> None:
    gradient = {}
    for gating in ("none", "learned"):
        module = GatedPositionalSelfAttention(
            18, 9, locality_strength=STRONG, gating=gating
        ).double()
        randomise(module.qk, 0.5)
        out = module(tokens(30, 18), (5, 6))
        gradient[gating] = float(gradients(out, [module.qk.weight])[0].abs().max())
    assert gradient["none"] < 1e-14
    assert gradient["learned"] > 1e-4
