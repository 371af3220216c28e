"""Gated positional self-attention against its naive twin, and the limits known on paper."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.reference import naive
from tests.reference.naive import close, gradients, on_one_thread, state
from zoo.errors import InputError
from zoo.layers import gpsa
from zoo.layers.attention import MultiHeadSelfAttention
from zoo.layers.gpsa import GatedPositionalSelfAttention

from .making import randomise, tokens

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
GRIDS = [(3, 3), (2, 5), (4, 1), (1, 1)]
CERTAIN = 40.0  # sigmoid(40) is 1 in float64


def layer(
    dim: int = 8, num_heads: int = 2, seed: int = 0, **keywords
) -> GatedPositionalSelfAttention:
    """A float64 layer none of whose parameters is at a special value."""
    return randomise(GatedPositionalSelfAttention(dim, num_heads, **keywords), 0.5, seed)


@pytest.mark.parametrize("grid", GRIDS)
def test_output_and_attention_equal_the_twin(grid: tuple[int, int]) -> None:
    module, x = layer(), tokens(grid[0] * grid[1])
    out, attention = naive.gpsa(x, grid, state(module), 2)
    close(module(x, grid), out, 1e-12)
    close(module.attention_weights(x, grid), attention, 1e-12)


@pytest.mark.parametrize("grid", GRIDS)
def test_gradients_equal_the_twin(grid: tuple[int, int]) -> None:
    module, x = layer(), tokens(grid[0] * grid[1]).requires_grad_()
    inputs = [x, *module.parameters()]
    expected = gradients(naive.gpsa(x, grid, state(module), 2)[0], inputs)
    for actual, wanted in zip(gradients(module(x, grid), inputs), expected, strict=True):
        close(actual, wanted, 1e-12)


@pytest.mark.parametrize("heads", [1, 4, 8])
def test_any_number_of_heads_equals_the_twin(heads: int) -> None:
    module, x = layer(num_heads=heads, qkv_bias=True), tokens(6)
    close(module(x, (2, 3)), naive.gpsa(x, (2, 3), state(module), heads)[0], 1e-12)


def test_qk_scale_acts_on_the_content_term_only() -> None:
    module, x = layer(qk_scale=0.3), tokens(6)
    close(module(x, (2, 3)), naive.gpsa(x, (2, 3), state(module), 2, scale=0.3)[0], 1e-12)


def test_float32_output_and_gradients_equal_the_float64_twin() -> None:
    module, x = layer(), tokens(6)
    fast = layer().float()
    x32 = x.float().requires_grad_()
    x = x.float().double().requires_grad_()
    module.load_state_dict(fast.state_dict())  # the same, rounded numbers
    inputs = [x, *module.parameters()]
    expected = naive.gpsa(x, (2, 3), state(module), 2)[0]
    actual = fast(x32, (2, 3))
    assert actual.dtype == torch.float32
    close(actual, expected, 1e-6)
    pairs = zip(
        gradients(actual, [x32, *fast.parameters()]), gradients(expected, inputs), strict=True
    )
    for gradient, wanted in pairs:
        close(gradient, wanted, 1e-6)


@pytest.mark.parametrize("grid", [(3, 4), (7, 2)])
def test_positional_attention_is_the_outer_product_of_its_factors(grid: tuple[int, int]) -> None:
    module = layer(num_heads=4)
    rows, columns = module.position_factors(grid)
    product = torch.stack([torch.kron(r, c) for r, c in zip(rows, columns, strict=True)])
    close(product, naive.position_weights(state(module), grid), 1e-12)


def test_grid_defaults_to_a_square() -> None:
    module, x = layer(), tokens(9)
    assert torch.equal(module(x), module(x, (3, 3)))


def test_a_transposed_grid_is_another_grid() -> None:
    module, x = layer(), tokens(6)
    assert not torch.allclose(module(x, (2, 3)), module(x, (3, 2)))


@pytest.mark.parametrize("grid", [(3, 3), (2, 5)])
def test_rows_of_attention_sum_to_one(grid: tuple[int, int]) -> None:
    sums = layer().attention_weights(tokens(grid[0] * grid[1]), grid).sum(-1)
    close(sums, torch.ones_like(sums), 1e-14)


def test_attention_weights_times_values_is_the_forward() -> None:
    module, x = layer(), tokens(6)
    values = module.v(x).reshape(2, 6, 2, 4).transpose(1, 2)  # (B, nh, N, hd)
    heads = module.attention_weights(x, (2, 3)) @ values
    close(module(x, (2, 3)), module.proj(heads.transpose(1, 2).reshape(x.shape)), 1e-13)


def test_an_open_gate_leaves_position_only() -> None:
    module, x = layer(), tokens(6)
    torch.nn.init.constant_(module.gating_param, CERTAIN)
    position = naive.position_weights(state(module), (2, 3))
    close(module.attention_weights(x, (2, 3)), position.expand(2, -1, -1, -1), 1e-12)


def test_an_open_gate_ignores_queries_and_keys() -> None:
    module, x = layer(), tokens(6)
    torch.nn.init.constant_(module.gating_param, CERTAIN)
    before = module(x, (2, 3))
    torch.nn.init.normal_(module.qk.weight)
    close(module(x, (2, 3)), before, 1e-14)


def test_a_closed_gate_is_plain_self_attention() -> None:
    module, x = layer(qkv_bias=True), tokens(6)
    torch.nn.init.constant_(module.gating_param, -CERTAIN)
    plain = MultiHeadSelfAttention(8, 2, qkv_bias=True).double()
    plain.load_state_dict(
        {
            "qkv.weight": torch.cat((module.qk.weight, module.v.weight)),
            "qkv.bias": torch.cat((module.qk.bias, module.v.bias)),
            "proj.weight": module.proj.weight,
            "proj.bias": module.proj.bias,
        }
    )
    close(module(x, (2, 3)), plain(x), 1e-14)
    close(module.attention_weights(x, (2, 3)), plain.attention_weights(x), 1e-14)


def test_plain_attention_weights_times_values_is_its_forward() -> None:
    module, x = MultiHeadSelfAttention(8, 2).double(), tokens(6)
    values = (x @ module.qkv.weight[16:].T).reshape(2, 6, 2, 4).transpose(1, 2)
    heads = module.attention_weights(x) @ values
    close(module(x), module.proj(heads.transpose(1, 2).reshape(x.shape)), 1e-14)


def test_plain_attention_equals_the_content_term_of_the_twin() -> None:
    module, x = MultiHeadSelfAttention(8, 2).double(), tokens(5)
    torch.nn.init.normal_(module.qkv.weight)
    expected = naive.content_weights(x, x @ module.qkv.weight[:16].T, 2, 0.5)
    close(module.attention_weights(x), expected, 1e-13)


def test_the_position_bias_changes_nothing_and_gets_no_gradient() -> None:
    module, x = layer(), tokens(6)
    before = module(x, (2, 3))
    gradient = gradients(before, [module.pos_proj.bias])[0]
    close(gradient, torch.zeros_like(gradient), 1e-14)
    torch.nn.init.constant_(module.pos_proj.bias, 3.0)
    close(module(x, (2, 3)), before, 1e-14)


def test_training_without_attention_dropout_equals_eval() -> None:
    module, x = layer(), tokens(6)
    assert torch.equal(module.train()(x, (2, 3)), module.eval()(x, (2, 3)))


def test_the_dense_path_without_its_dropout_equals_the_fast_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, x = layer(attn_drop=0.5), tokens(6)
    inputs = list(module.parameters())
    fast = module.eval()(x, (2, 3))
    rates = []
    functions = SimpleNamespace(dropout=lambda weights, rate: rates.append(rate) or weights)
    monkeypatch.setattr(gpsa, "F", functions)  # no fast attention in it
    dense = module.train()(x, (2, 3))
    assert rates == [0.5]
    close(dense, fast, 1e-13)
    for a, b in zip(gradients(dense, inputs), gradients(fast, inputs), strict=True):
        close(a, b, 1e-12)


def test_attention_dropout_averages_to_the_fast_path() -> None:
    module, x = layer(attn_drop=0.3), tokens(4, batch=1)
    expected = module.eval()(x, (2, 2))
    torch.manual_seed(0)
    samples = module.train()(x.expand(4000, -1, -1), (2, 2))
    deviation = samples.std(0) / 4000**0.5
    assert (deviation > 0).all()
    assert ((samples.mean(0) - expected[0]).abs() < 5 * deviation).all()


def test_attention_dropout_is_off_in_eval() -> None:
    module, x = layer(attn_drop=0.9).eval(), tokens(6)
    assert torch.equal(module(x, (2, 3)), layer().eval()(x, (2, 3)))


def test_projection_dropout_acts_in_training_only() -> None:
    module, x = layer(proj_drop=0.9), tokens(6)
    torch.manual_seed(0)
    assert (module.train()(x, (2, 3)) == 0).double().mean() > 0.5
    assert torch.equal(module.eval()(x, (2, 3)), layer().eval()(x, (2, 3)))


def test_image_scaling_divides_offsets_by_the_growth_of_the_grid() -> None:
    module = layer(base_grid=(4, 6), position_scaling="image")
    x = tokens(24)
    expected = naive.gpsa(x, (8, 3), state(module), 2, unit=(4 / 8, 6 / 3))[0]
    close(module(x, (8, 3)), expected, 1e-12)


def test_image_scaling_by_hand() -> None:
    module = layer(num_heads=1, base_grid=(1, 2), position_scaling="image")
    with torch.no_grad():
        module.pos_proj.weight.copy_(torch.tensor([[2.0, 0.0, 4.0]]))
    _, columns = module.position_factors((1, 4))
    logits = torch.tensor([0.0, 2.0, 6.0, 12.0], dtype=torch.float64)  # 2 (d/2) + 4 (d/2)^2
    close(columns[0, 0], logits.softmax(0), 1e-15)


def test_image_scaling_changes_nothing_on_the_trained_grid() -> None:
    module, x = layer(base_grid=(2, 3), position_scaling="image"), tokens(6)
    assert torch.equal(module(x, (2, 3)), layer()(x, (2, 3)))


def test_patch_scaling_ignores_the_trained_grid() -> None:
    module, x = layer(base_grid=(4, 6)), tokens(6)
    assert torch.equal(module(x, (2, 3)), layer()(x, (2, 3)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_runs_close_to_float32(dtype: torch.dtype) -> None:
    module = layer().to(dtype)
    x = tokens(6).to(dtype)
    out = module(x, (2, 3))
    assert out.dtype == dtype
    assert module.attention_weights(x, (2, 3)).dtype == dtype
    close(out, module.float()(x.float(), (2, 3)).double(), 8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_position_tables_are_built_in_float32(dtype: torch.dtype) -> None:
    module = layer().to(dtype)
    low = module.position_factors((2, 400))  # 399^2 overflows float16
    assert low[1].isfinite().all()
    for actual, expected in zip(low, module.float().position_factors((2, 400)), strict=True):
        assert torch.equal(actual, expected.to(dtype))


def test_width_must_be_divisible_by_heads() -> None:
    for cls in (GatedPositionalSelfAttention, MultiHeadSelfAttention):
        with pytest.raises(ValueError, match="dim=10, num_heads=4"):
            cls(10, 4)


def test_tokens_must_fill_the_grid() -> None:
    with pytest.raises(InputError, match="6 tokens do not make 2 x 2; pass grid="):
        layer()(tokens(6))
    with pytest.raises(InputError, match="6 tokens do not make 4 x 2"):
        layer().attention_weights(tokens(6), (4, 2))


def test_position_scaling_is_patch_or_image() -> None:
    with pytest.raises(ValueError, match="'patch' or 'image'; got 'pixel'"):
        layer(position_scaling="pixel")


def test_image_scaling_needs_the_trained_grid() -> None:
    with pytest.raises(ValueError, match="needs base_grid"):
        layer(position_scaling="image")
