"""Convolutional self-attention against its naive twin, and the limits known on paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.reference.naive import close, gradients, on_one_thread
from zoo.layers.attention import MultiHeadSelfAttention
from zoo.layers.csan import ConvolutionalSelfAttention

from .csan_layers import layer, lengths_mask, tokens, twin

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
FORMS = [(0,), (-1, 0, 1), (0, 1), (-2, -1, 0, 1, 2), (3,), (-5, 4)]
NEIGHBOURS = ["wrap_keys", "wrap", "clamp"]


# The twin


@pytest.mark.parametrize("neighbours", NEIGHBOURS)
@pytest.mark.parametrize("head_offsets", FORMS)
def test_output_and_attention_equal_the_twin(head_offsets: Any, neighbours: str) -> None:
    module, x = layer(2, head_offsets, neighbours=neighbours), tokens(5)
    out, weights = twin(module, x)
    close(module(x), out, 1e-12)
    close(module.attention_weights(x), weights, 1e-12)


@pytest.mark.parametrize("half_width", [0, 1, 3, 9, None])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_window_on_any_number_of_tokens_equals_the_twin(
    half_width: int | None, count: int
) -> None:
    module, x = layer(half_width), tokens(count)
    close(module(x), twin(module, x)[0], 1e-12)


@pytest.mark.parametrize("neighbours", NEIGHBOURS)
def test_gradients_equal_the_twin(neighbours: str) -> None:
    module, x = layer(1, neighbours=neighbours), tokens(4).requires_grad_()
    inputs = [x, *module.parameters()]
    expected = gradients(twin(module, x)[0], inputs)
    for actual, wanted in zip(gradients(module(x), inputs), expected, strict=True):
        close(actual, wanted, 1e-12)


def test_widths_of_heads_and_output_of_their_own_equal_the_twin() -> None:
    module, x = layer(head_dim=4, dim_out=5), tokens(5)
    assert module(x).shape == (2, 5, 5)
    close(module(x), twin(module, x)[0], 1e-12)


def test_float32_equals_the_float64_twin() -> None:
    fast, module, x = layer().float(), layer(), tokens(5)
    module.load_state_dict(fast.state_dict())  # the same, rounded numbers
    assert fast(x.float()).dtype == torch.float32
    close(fast(x.float()), twin(module, x.float().double())[0], 2e-6)


# Limits known on paper


def test_without_a_window_the_one_dimensional_form_is_plain_self_attention() -> None:
    module, x = layer(None, (0,)), tokens(7)
    plain = MultiHeadSelfAttention(6, 3, qkv_bias=True).double()
    plain.load_state_dict(module.state_dict(), strict=True)
    close(module(x), plain(x), 1e-13)
    close(module.attention_weights(x), plain.attention_weights(x), 1e-13)


def test_a_window_as_long_as_the_sequence_is_no_window() -> None:
    x = tokens(7)
    close(layer(6)(x), layer(None)(x), 1e-13)


def test_a_window_of_one_token_in_one_head_copies_the_values() -> None:
    module, x = layer(0, (0,)), tokens(5)
    close(module(x), module.proj(module.project(x)[2].transpose(1, 2).flatten(2)), 1e-13)


@pytest.mark.parametrize("half_width", [0, 1, 3])
def test_tokens_further_away_than_the_window_have_no_influence(half_width: int) -> None:
    module, x = layer(half_width), tokens(9, batch=1)
    changed = x.clone()
    changed[:, 4] += 1
    moved = (module(changed) - module(x)).abs().amax(-1)[0] > 1e-9
    distance = (torch.arange(9) - 4).abs()
    assert torch.equal(moved, distance <= half_width)


def test_shifting_the_tokens_shifts_the_output_away_from_the_ends() -> None:
    module, x = layer(2), tokens(12)
    shifted = module(x.roll(3, 1))
    close(shifted[:, 5:10], module(x)[:, 2:7], 1e-13)


@pytest.mark.parametrize("mask", [None, (5, 3)])
def test_rows_of_attention_sum_to_one(mask: tuple[int, int] | None) -> None:
    x = tokens(5)
    given = lengths_mask(*mask, tokens=5) if mask else None
    sums = layer(4).attention_weights(x, given).sum(-1)
    close(sums, torch.ones_like(sums), 1e-14)


def test_the_last_axis_of_attention_is_offsets_then_tokens() -> None:
    weights = layer(1, (-1, 0, 1)).attention_weights(tokens(6)).unflatten(-1, (3, 6))
    distance = (torch.arange(6)[:, None] - torch.arange(6)).abs()
    inside = (distance <= 1).expand(2, 3, 6, 6)
    for block in range(3):
        assert torch.equal(weights[:, :, :, block] > 0, inside)


# Heads beyond the first and the last


def heads_seen(module: ConvolutionalSelfAttention, what: str) -> list[list[int]]:
    """For every head, the heads whose keys or values change its output."""
    q, k, v = module.project(tokens(4))
    before = module.attend(q, k, v)
    found = []
    for changed in range(3):
        other = {"k": k, "v": v}
        other[what] = other[what].clone()
        other[what][:, changed] += torch.randn(4, 2, dtype=torch.float64)
        moved = (module.attend(q, **other) - before).abs().amax((0, 2, 3)) > 1e-9
        found.append(moved)
    return [torch.stack(found)[:, head].nonzero().flatten().tolist() for head in range(3)]


@pytest.mark.parametrize(
    ("neighbours", "keys", "values"),
    [
        ("wrap_keys", [[0, 2], [0, 1], [1, 2]], [[0], [0, 1], [1, 2]]),
        ("wrap", [[0, 2], [0, 1], [1, 2]], [[0, 2], [0, 1], [1, 2]]),
        ("clamp", [[0], [0, 1], [1, 2]], [[0], [0, 1], [1, 2]]),
    ],
)
def test_borders_of_the_heads_are_as_named(neighbours: str, keys: Any, values: Any) -> None:
    module = layer(3, (-1, 0), neighbours=neighbours)
    assert heads_seen(module, "k") == keys
    assert heads_seen(module, "v") == values


def test_borders_do_not_matter_to_a_head_with_all_its_neighbours() -> None:
    x = tokens(5)
    weights = [layer(neighbours=name).attention_weights(x)[:, 1] for name in NEIGHBOURS]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


# Precision, dropout, export, errors


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
def test_low_precision_runs_close_to_float32(dtype: torch.dtype, masked: bool) -> None:
    module = layer().to(dtype)
    x = tokens(6).to(dtype)
    mask = torch.zeros(2, 1, 1, 6).masked_fill(~lengths_mask(6, 4, tokens=6)[:, None, None], -1e9)
    given = mask.to(dtype) if masked else None
    out = module(x, given)
    assert out.dtype == dtype
    wanted = module.float()(x.float(), mask if masked else None).double()
    close(out, wanted, 16 * torch.finfo(dtype).eps)


def test_dropout_acts_in_training_only() -> None:
    x = tokens(6)
    for keyword in ("attn_drop", "proj_drop"):
        module = layer(**{keyword: 0.9})
        assert torch.equal(module.eval()(x), layer().eval()(x))
        assert not torch.allclose(module.train()(x), module.eval()(x))


@pytest.mark.parametrize("head_offsets", [(0,), (-1, 0, 1)])
def test_it_exports_with_dynamic_batch_and_tokens(head_offsets: tuple[int, ...]) -> None:
    module = layer(2, head_offsets).eval()
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    program = torch.export.export(module, (tokens(6),), dynamic_shapes=(sizes,))
    for count in (3, 11):
        x = tokens(count, batch=3)
        close(program.module()(x), module(x), 1e-13)


def test_keys_are_those_of_plain_self_attention() -> None:
    plain = MultiHeadSelfAttention(6, 3, qkv_bias=True)
    assert list(layer().state_dict()) == list(plain.state_dict())


def test_every_parameter_is_trained() -> None:
    module = layer()
    module(tokens(5)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())
    assert isinstance(module.qkv, nn.Linear)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"dim": 10, "num_heads": 4}, "dim=10, num_heads=4"),
        ({"half_width": -1}, "half_width must be a number of tokens or None; got -1"),
        ({"half_width": 2.5}, "half_width must be a number of tokens or None; got 2.5"),
        ({"head_offsets": ()}, "head_offsets must be whole numbers, at least one"),
        ({"head_offsets": (0.5,)}, "head_offsets must be whole numbers"),
        ({"neighbours": "mirror"}, "neighbours must be one of wrap_keys, wrap, clamp"),
    ],
)
def test_impossible_settings_are_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvolutionalSelfAttention(**{"dim": 6, "num_heads": 3, **keywords})
