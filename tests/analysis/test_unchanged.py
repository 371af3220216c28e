"""A model comes back as it was: parameters, buffers, modes, gradients, hooks, random state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from zoo.analysis.fourier import fourier_analysis
from zoo.analysis.gates import gate_study
from zoo.analysis.hessian import HessianSettings, hessian_spectrum
from zoo.analysis.landscape import LandscapeSettings, loss_landscape
from zoo.analysis.lesion import lesion_study
from zoo.analysis.nonlocality import nonlocality_study
from zoo.analysis.similarity import similarity_study
from zoo.analysis.specificity import specificity_study
from zoo.analysis.variance import feature_variance

STUDIES: dict[str, Callable[..., Any]] = {
    "fourier": fourier_analysis,
    "variance": feature_variance,
    "lesion": lesion_study,
    "nonlocality": nonlocality_study,
    "similarity": similarity_study,
    "specificity": specificity_study,
    "hessian": lambda model, loader, **rest: hessian_spectrum(
        model, loader, HessianSettings(count=1, max_iterations=2), **rest
    ),
    "landscape": lambda model, loader, **rest: loss_landscape(
        model, loader, LandscapeSettings(count=1), **rest
    ),
}


@pytest.fixture(scope="module")
def subject() -> nn.Module:
    model = zoo.create_model("convit_nano", pretrained=True).train()
    model.blocks[0].eval()  # a mixture of modes must survive
    next(model.parameters()).requires_grad_(False)
    return model


def _loader() -> list[Any]:
    generator = torch.Generator().manual_seed(3)
    return [(torch.randn(4, 3, 32, 32, generator=generator), torch.arange(4)) for _ in range(2)]


def _state(model: nn.Module) -> tuple[Any, ...]:
    return (
        {key: value.clone() for key, value in model.state_dict().items()},
        [module.training for module in model.modules()],
        [(p.requires_grad, p.grad is None) for p in model.parameters()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        torch.get_rng_state(),
        torch.is_grad_enabled(),
    )


def _assert_same(before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
    for key, value in before[0].items():
        assert torch.equal(value, after[0][key]), key
    assert before[1:4] == after[1:4]
    assert torch.equal(before[4], after[4])
    assert before[5] == after[5]


@pytest.mark.parametrize("name", STUDIES)
def test_the_model_is_unchanged(name: str, subject: nn.Module) -> None:
    before = _state(subject)
    result = STUDIES[name](subject, _loader(), name="subject")
    _assert_same(before, _state(subject))
    assert result.model == "subject"
    assert result.definition
    assert result.rows()
    assert result.to_dict()["model"] == "subject"


@pytest.mark.parametrize("name", STUDIES)
def test_the_model_is_unchanged_after_an_interruption(name: str, subject: nn.Module) -> None:
    before = _state(subject)
    handle = subject.norm.register_forward_hook(_interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            STUDIES[name](subject, _loader())
    finally:
        handle.remove()
    _assert_same(before, _state(subject))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_gates_leave_the_model_alone(subject: nn.Module) -> None:
    before = _state(subject)
    gate_study(subject, (8, 8))
    _assert_same(before, _state(subject))
