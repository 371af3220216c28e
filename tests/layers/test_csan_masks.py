"""Convolutional self-attention under masks, of tokens and additive ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.reference.naive import close, gradients, on_one_thread

from .csan_layers import excluding, layer, lengths_mask, tokens, twin

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)


def test_a_padding_mask_hides_tokens_and_equals_the_twin() -> None:
    module, x, mask = layer(), tokens(6), lengths_mask(6, 4, tokens=6)
    out, weights = twin(module, x, excluding(mask, 6))
    close(module(x, mask), out, 1e-12)
    close(module.attention_weights(x, mask), weights, 1e-12)
    changed = x.clone()
    changed[1, 4:] += 1
    assert torch.equal(module(changed, mask)[1, :4], module(x, mask)[1, :4])


@pytest.mark.parametrize("value", [-1e9, -torch.inf])
def test_an_additive_mask_excludes_as_the_originals_padding_does(value: float) -> None:
    module, x, mask = layer(), tokens(6), lengths_mask(6, 5, tokens=6)
    bias = torch.zeros(2, 1, 1, 6, dtype=torch.float64)
    bias.masked_fill_(~mask[:, None, None], value)
    close(module(x, bias), module(x, mask), 1e-14)


@pytest.mark.parametrize("shape", [(5, 5), (3, 1, 5), (2, 1, 5, 5), (2, 3, 5, 5)])
def test_other_values_of_an_additive_mask_are_added_in_every_head(shape: Any) -> None:
    module, x = layer(), tokens(5)
    bias = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    out, weights = twin(module, x, bias.expand(2, 3, 5, 5))
    close(module(x, bias), out, 1e-12)
    close(module.attention_weights(x, bias), weights, 1e-12)


def test_a_causal_mask_makes_the_future_invisible() -> None:
    module, x = layer(), tokens(6)
    causal = torch.full((6, 6), -1e9, dtype=torch.float64).triu(1)
    changed = x.clone()
    changed[:, 4:] += 1
    assert torch.equal(module(changed, causal)[:, :4], module(x, causal)[:, :4])


def test_a_query_without_any_key_returns_zeros() -> None:
    module, x, mask = layer(1), tokens(6), lengths_mask(6, 2, tokens=6)
    weights = module.attention_weights(x, mask)
    q, k, v = module.project(x)
    assert (weights[1, :, 3:] == 0).all()  # windows 2..4 and on hold padding only
    assert (module.attend(q, k, v, mask)[1, :, 3:] == 0).all()
    assert torch.equal(module(x, mask)[1, 3:], module.proj.bias.expand(3, -1))
    close(module(x, mask), twin(module, x, excluding(mask, 6))[0], 1e-12)


@pytest.mark.parametrize("additive", [False, True])
def test_queries_without_any_key_have_finite_gradients(additive: bool) -> None:
    module, x, mask = layer(1), tokens(6).requires_grad_(), lengths_mask(6, 0, tokens=6)
    given = (~mask).double()[:, None, None] * -1e9 if additive else mask
    inputs = [x, *module.parameters()]
    expected = gradients(twin(module, x, excluding(mask, 6))[0], inputs)
    for actual, wanted in zip(gradients(module(x, given), inputs), expected, strict=True):
        close(actual, wanted, 1e-12)


def test_a_bool_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"marks tokens, \(2, 6\); got \(6, 6\)"):
        layer()(tokens(6), torch.ones(6, 6, dtype=torch.bool))
