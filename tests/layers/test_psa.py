"""Positional self-attention: its twin, its limit as a convolution, the collapse of content."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference.naive import close, gradients, on_one_thread, position_weights, state
from tests.reference.naive_psa import psa
from zoo.layers import GatedPositionalSelfAttention, PositionalSelfAttention
from zoo.layers.psa import kernel_offsets

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
GRIDS = [(3, 3), (2, 5), (4, 1), (1, 1)]
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


# The twin


@pytest.mark.parametrize("grid", GRIDS)
def test_output_and_attention_equal_the_twin(grid: tuple[int, int]) -> None:
    module, x = layer(qkv_bias=True), tokens(grid[0] * grid[1])
    out, attention = psa(x, grid, state(module), 2)
    close(module(x, grid), out, 1e-12)
    close(module.attention_weights(x, grid), attention, 1e-12)


def test_gradients_equal_the_twin() -> None:
    module, x = layer(), tokens(6).requires_grad_()
    inputs = [x, *module.parameters()]
    expected = gradients(psa(x, (2, 3), state(module), 2)[0], inputs)
    for actual, wanted in zip(gradients(module(x, (2, 3)), inputs), expected, strict=True):
        close(actual, wanted, 1e-12)


def test_a_head_width_of_its_own_equals_the_twin() -> None:
    module, x = layer(head_dim=5), tokens(6)
    assert module.v.weight.shape == (10, 8)
    close(module(x, (2, 3)), psa(x, (2, 3), state(module), 2)[0], 1e-12)


def test_qk_scale_acts_on_the_content_term_only() -> None:
    module, x = layer(qk_scale=0.3), tokens(6)
    close(module(x, (2, 3)), psa(x, (2, 3), state(module), 2, scale=0.3)[0], 1e-12)


def test_image_scaling_divides_offsets_by_the_growth_of_the_grid() -> None:
    module, x = layer(base_grid=(4, 6), position_scaling="image"), tokens(24)
    expected = psa(x, (8, 3), state(module), 2, unit=(4 / 8, 6 / 3))[0]
    close(module(x, (8, 3)), expected, 1e-12)


def test_rows_of_attention_sum_to_one() -> None:
    sums = layer().attention_weights(tokens(10), (2, 5)).sum(-1)
    close(sums, torch.ones_like(sums), 1e-14)


def test_gpsa_without_gates_is_psa() -> None:
    gated = GatedPositionalSelfAttention(8, 2, gating="none").double()
    plain, x = layer(), tokens(6)
    gated.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(gated(x, (2, 3)), plain(x, (2, 3)))
    assert torch.equal(gated.attention_weights(x, (2, 3)), plain.attention_weights(x, (2, 3)))


def test_without_content_psa_and_an_open_gate_are_the_same_positional_attention() -> None:
    module, x = layer(), tokens(6)
    nn.init.zeros_(module.qk.weight)
    expected = position_weights(state(module), (2, 3)).expand(2, -1, -1, -1)
    close(module.attention_weights(x, (2, 3)), expected, 1e-12)


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
    randomise(conv)
    assert int(torch.linalg.matrix_rank(conv.weight.permute(2, 3, 0, 1)).min()) == 4
    module = PositionalSelfAttention(4, 9, head_dim=4, locality_strength=STRONG).double()
    randomise(module.qk)
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
        randomise(module.qk)
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
        randomise(module.qk)
        out = module(tokens(30, 18), (5, 6))
        gradient[gating] = float(gradients(out, [module.qk.weight])[0].abs().max())
    assert gradient["none"] < 1e-14
    assert gradient["learned"] > 1e-4


# Centres and strengths


def test_centres_and_strengths_are_read_back_from_the_weights() -> None:
    centres = ((0.5, -1.0), (2.0, 0.0))
    module = PositionalSelfAttention(8, 2, centres=centres, locality_strength=(0.5, 3.0))
    assert module.centres().tolist() == [list(centre) for centre in centres]
    assert module.strengths().tolist() == [0.5, 3.0]


def test_the_centre_is_where_a_head_looks_most() -> None:
    module = local_layer(4, 1, 1.0, centres=((2, -1),))
    nn.init.zeros_(module.qk.weight)
    weights = module.attention_weights(tokens(20, 4), (4, 5))[0, 0, 2 * 5 + 1]  # query (2, 1)
    assert int(weights.argmax()) == 1 * 5 + 3  # two to the right, one up


def test_the_default_centres_are_those_of_a_square_kernel() -> None:
    assert kernel_offsets(1) == [(0.0, 0.0)]
    assert kernel_offsets(5) == [(-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)]
    offsets = PositionalSelfAttention(18, 9).centres().tolist()
    assert offsets == [[dx, dy] for dx in (-1.0, 0.0, 1.0) for dy in (-1.0, 0.0, 1.0)]


def test_the_value_projection_starts_as_the_identity_in_every_wide_head() -> None:
    assert torch.equal(PositionalSelfAttention(8, 4).v.weight, torch.eye(8))
    wide = PositionalSelfAttention(4, 3, head_dim=4).v.weight
    assert torch.equal(wide, torch.eye(4).repeat(3, 1))


def test_keys_are_those_of_gpsa_without_gates() -> None:
    gated = GatedPositionalSelfAttention(8, 4, qkv_bias=True).state_dict()
    assert list(PositionalSelfAttention(8, 4, qkv_bias=True).state_dict()) == list(gated)[1:]
    assert next(iter(gated)) == "gating_param"


# Precision, dropout, errors


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_runs_close_to_float32(dtype: torch.dtype) -> None:
    module = layer().to(dtype)
    x = tokens(6).to(dtype)
    out = module(x, (2, 3))
    assert out.dtype == dtype
    close(out, module.float()(x.float(), (2, 3)).double(), 8 * torch.finfo(dtype).eps)


def test_long_distances_do_not_overflow_half_precision() -> None:
    module = local_layer(4, 1, 5.0).half()
    out = module(tokens(400, 4).half(), (1, 400))  # 5 * 399^2 is beyond float16
    assert out.isfinite().all()


def test_attention_dropout_acts_in_training_only() -> None:
    module, x = layer(attn_drop=0.9), tokens(6)
    assert torch.equal(module.eval()(x, (2, 3)), layer().eval()(x, (2, 3)))
    assert not torch.allclose(module.train()(x, (2, 3)), module.eval()(x, (2, 3)))


def test_it_exports_with_a_dynamic_batch() -> None:
    module = layer().eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        module, (tokens(6), (2, 3)), dynamic_shapes=({0: batch}, (None, None))
    )
    close(program.module()(tokens(6, batch=3), (2, 3)), module(tokens(6, batch=3), (2, 3)), 1e-13)


def test_one_centre_and_one_strength_per_head_are_needed() -> None:
    with pytest.raises(ValueError, match="one \\(dx, dy\\) per head; got 1 for 2"):
        PositionalSelfAttention(8, 2, centres=((0, 0),))
    with pytest.raises(ValueError, match="one per head; got 3 for 2"):
        PositionalSelfAttention(8, 2, locality_strength=(1.0, 1.0, 1.0))


def test_width_must_be_divisible_by_heads_unless_their_width_is_given() -> None:
    with pytest.raises(ValueError, match="dim=10, num_heads=4"):
        PositionalSelfAttention(10, 4)
    assert PositionalSelfAttention(10, 4, head_dim=3)(torch.randn(1, 4, 10)).shape == (1, 4, 10)


def test_tokens_must_fill_the_grid() -> None:
    with pytest.raises(ValueError, match="6 tokens do not make 4 x 2; pass grid="):
        layer()(tokens(6), (4, 2))


def test_settings_of_gates_are_named_when_unknown() -> None:
    with pytest.raises(ValueError, match="gating must be one of learned, fixed, none; got 'off'"):
        GatedPositionalSelfAttention(8, 2, gating="off")
    with pytest.raises(ValueError, match="freeze must be one of none, position, layer; got 'all'"):
        GatedPositionalSelfAttention(8, 2, freeze="all")
