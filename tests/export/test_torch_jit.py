"""torch.jit on our models: tracing works with gradients too; scripting is refused by torch."""

from __future__ import annotations

import warnings

import pytest
import torch

import zoo
from zoo.factory.create import create_random

NAMES = [name for name in zoo.list_models() if name.endswith("_nano")]


@pytest.mark.parametrize("name", NAMES)
def test_a_trace_made_with_gradients_gives_those_of_the_model(name: str) -> None:
    model = create_random(name, 0).eval()
    size = model.pretrained_cfg.input.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(model, torch.randn(2, 3, *size), check_trace=False)
    x = torch.randn(3, 3, *size)
    expected = model(x)
    expected.square().sum().backward()
    wanted = {key: parameter.grad.clone() for key, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    found = traced(x)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    found.square().sum().backward()
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_scripting_is_refused_not_wrong(name: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=r"[Tt]ype annotation|not supported"):
        torch.jit.script(create_random(name, 0).eval())
