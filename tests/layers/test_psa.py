"""Positional self-attention: equal to its naive twin; centres, strengths, precision, errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.reference.naive import close, gradients, on_one_thread, position_weights, state
from tests.reference.naive_psa import psa
from zoo.layers.gpsa import GatedPositionalSelfAttention
from zoo.layers.psa import PositionalSelfAttention, kernel_offsets

from .making import tokens
from .psa_layers import layer, local_layer

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
GRIDS = [(3, 3), (2, 5), (4, 1), (1, 1)]


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
