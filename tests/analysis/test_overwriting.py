"""Layers that overwrite what they take: every analysis sees what entered, and nobody's images
change. Each model has a twin that writes elsewhere, to which it must be equal to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import zoo
from tests.analysis.models import Classifier, Wrapped, batches
from zoo.analysis._units import Unit
from zoo.analysis.filters import layer_gains
from zoo.analysis.fourier import fourier_analysis
from zoo.analysis.hessian import HessianSettings, hessian_spectrum
from zoo.analysis.landscape import LandscapeSettings, loss_landscape
from zoo.analysis.lesion import lesion_study
from zoo.analysis.noise import NoiseSettings, noise_study
from zoo.analysis.nonlocality import nonlocality_study
from zoo.analysis.similarity import similarity_study
from zoo.analysis.specificity import specificity_study
from zoo.analysis.variance import feature_variance
from zoo.evaluation.predictor import Predictor


class Attention(nn.Module):
    """Self-attention on a map that takes the root of the magnitude of its input first."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.inplace, self.qk = inplace, nn.Conv2d(4, 8, 1)

    def _entering(self, x: Tensor) -> Tensor:
        return x.abs_().sqrt_() if self.inplace else x.abs().sqrt()

    def attention_weights(self, x: Tensor) -> Tensor:
        q, k = self.qk(self._entering(x)).flatten(2).chunk(2, 1)
        return (q.transpose(1, 2) @ k).softmax(-1)[:, None]  # (B, 1, N, N)

    def forward(self, x: Tensor) -> Tensor:
        x = self._entering(x)
        q, k = self.qk(x).flatten(2).chunk(2, 1)
        weights = (q.transpose(1, 2) @ k).softmax(-1)
        return (x.flatten(2) @ weights.transpose(1, 2)).view_as(x)


class Context(nn.Module):
    """What has similarity maps, and overwrites its input."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace)

    def similarity(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (2, 2)).square().mean(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)


def _rectified(inplace: bool) -> nn.Module:
    return nn.Sequential(nn.ReLU(inplace), nn.Conv2d(4, 4, 3, padding=1))


def _twin(inplace: bool) -> nn.Module:
    torch.manual_seed(7)
    return Classifier(
        _rectified(inplace), _rectified(inplace), Attention(inplace), Context(inplace)
    )


FEW = LandscapeSettings(count=3)
ENTERS = [Unit("entering", "convolution", "blocks.1.0", entering=True)]
STUDIES: dict[str, Callable[..., Any]] = {
    "fourier": fourier_analysis,
    "entering": lambda model, loader: feature_variance(model, loader, ENTERS),
    "variance": feature_variance,
    "specificity": specificity_study,
    "lesion": lesion_study,
    "filters": layer_gains,
    "similarity": similarity_study,
    "nonlocality": nonlocality_study,
    "fed": lambda model, loader: nonlocality_study(model, loader, feed="blocks.1"),
    "hessian": lambda model, loader: hessian_spectrum(model, loader, HessianSettings(count=1)),
    "landscape": lambda model, loader: loss_landscape(model, loader, FEW),
}


@pytest.mark.parametrize("study", STUDIES)
def test_what_overwrites_its_input_is_measured_as_its_twin(study: str) -> None:
    results = []
    for inplace in (True, False):
        loader = batches(2, 6)
        results.append(STUDIES[study](_twin(inplace), loader).to_dict())
        for (images, _), (kept, _) in zip(loader, batches(2, 6), strict=True):
            assert torch.equal(images, kept)
    assert results[0] == results[1]


def test_a_prediction_leaves_the_callers_array_alone() -> None:
    class Shifts(nn.Module):
        def __init__(self, inplace: bool) -> None:
            super().__init__()
            self.inplace, self.head = inplace, nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = x.sub_(1.5) if self.inplace else x - 1.5
            return self.head(x.mean((2, 3)))

    images = np.random.default_rng(0).normal(size=(20, 3, 8, 8)).astype(np.float32)
    kept, found = images.copy(), []
    for inplace in (True, False):
        torch.manual_seed(0)
        predictor = Predictor.from_model(Shifts(inplace), input=zoo.InputSpec(size=(8, 8)))
        study = noise_study(predictor.forward, images, np.arange(20) % 2, NoiseSettings((0.0,)))
        np.testing.assert_array_equal(images, kept)
        found.append(study.to_dict())
    assert found[0] == found[1]


def test_a_block_that_overwrites_its_input_passes_on_what_entered() -> None:
    images = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    found = []
    for inplace in (True, False):
        torch.manual_seed(7)
        model = Classifier(Wrapped(nn.Conv2d(4, 4, 3, padding=1)), _rectified(inplace)).eval()
        with torch.no_grad():
            left = model.head(model.blocks[0](images).mean((2, 3)))
            model.head.bias -= left.mean(0)
        targets = (left - left.mean(0)).argmax(-1)  # what the model says without the block
        found.append(lesion_study(model, [(images, targets)], ["blocks.1"]))
        assert found[-1].lesions[0].accuracy.correct == 64 > found[-1].intact.correct
    assert found[0] == found[1]
