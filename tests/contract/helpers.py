"""Tiny models and images of every family, for tests that must not name an architecture."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.catalog.records import Family
from zoo.catalog.registry import families
from zoo.factory.building import construct, find_class

FAMILIES = zoo.list_families()


def family_of(name: str) -> Family:
    return families()[name]


def _each_builder_first() -> list[Any]:
    """All families; those whose class a family before them has already are marked slow."""
    first = {family_of(name).builder: name for name in reversed(FAMILIES)}.values()
    return [pytest.param(n, marks=() if n in first else pytest.mark.slow) for n in FAMILIES]


each_builder = pytest.mark.parametrize("family", _each_builder_first())


def families_taking(keyword: str) -> list[str]:
    """Families whose constructor has a keyword; empty parameter sets show up as skips."""
    return [
        name
        for name in FAMILIES
        if keyword in inspect.signature(find_class(family_of(name).builder)).parameters
    ]


def build(name: str, **overrides: Any) -> nn.Module:
    """The family's tiny model as its constructor returns it."""
    torch.manual_seed(0)
    family = family_of(name)
    return construct(family.builder, {**family.tiny, **overrides})


def tiny(name: str, **overrides: Any) -> nn.Module:
    """The tiny model in eval mode, all parameters moved away from special initial values."""
    model = build(name, **overrides).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def images(
    name: str, batch: int = 2, size: tuple[int, int] | None = None, in_chans: int | None = None
) -> Tensor:
    """A batch of noise of the size that the tiny model is made for."""
    config = family_of(name).tiny
    side = config.get("img_size", 32)
    height, width = size or ((side, side) if isinstance(side, int) else side)
    chans = in_chans or config.get("in_chans", 3)
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, chans, height, width, generator=generator)


def run_or_refuse(model: nn.Module, x: Tensor) -> Tensor | None:
    """The logits, or None for an image size that the architecture cannot mean.

    The error must name the sizes that work.
    """
    try:
        return model(x)
    except ValueError as error:
        message = str(error)
    assert re.search(rf"\d+ pixels; got {x.shape[2]} x {x.shape[3]}", message), message
    return None


def classes(name: str) -> int:
    return family_of(name).tiny.get("num_classes", 1000)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest error relative to the largest expected value."""
    assert actual.shape == expected.shape
    actual, expected = actual.detach().double(), expected.detach().double()
    return float((actual - expected).abs().max() / expected.abs().max())
