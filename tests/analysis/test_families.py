"""Every family of the zoo goes through every analysis of maps and attention, or is refused by
name.
"""

from __future__ import annotations

import math

import pytest
import torch

from tests.contract.helpers import FAMILIES, images, tiny
from zoo.analysis.attention import query_attention
from zoo.analysis.filters import layer_gains
from zoo.analysis.fourier import fourier_analysis
from zoo.analysis.lesion import lesion_study
from zoo.analysis.nonlocality import nonlocality_study
from zoo.analysis.similarity import similarity_study
from zoo.analysis.specificity import specificity_study
from zoo.analysis.variance import feature_variance
from zoo.errors import AnalysisError


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_of_every_family_are_measured(family: str) -> None:
    model, x = tiny(family), images(family, 4)
    spectra = fourier_analysis(model, [x]).units
    variances = feature_variance(model, [x]).units
    assert [unit.name for unit in spectra] == [unit.name for unit in variances]
    assert len(spectra) >= 2
    assert all(math.isfinite(unit.high_frequency.mean) for unit in spectra)
    defined = [v for unit in variances if not math.isnan(v := unit.variance.mean)]
    assert defined
    assert min(defined) >= 0
    if family == "hdvw_mixer":  # it mixes tokens by matrices
        with pytest.raises(AnalysisError, match="has no attention or convolution that keeps"):
            layer_gains(model, [x])
    else:
        assert layer_gains(model, [x]).layers
    assert specificity_study(model, [x]).responses
    lesions = lesion_study(model, [(x, torch.arange(4) % 2)]).lesions
    assert lesions
    assert all((lesion.accuracy is None) == bool(lesion.note) for lesion in lesions)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_of_every_family_is_measured_or_refused(family: str) -> None:
    model, x = tiny(family), images(family, 3)
    if not any(hasattr(module, "attention_weights") for module in model.modules()):
        with pytest.raises(AnalysisError, match="has no attention layers"):
            nonlocality_study(model, [x])
        return
    found = nonlocality_study(model, [x])
    distances = [head.mean for layer in found.layers for head in layer.heads]
    assert distances
    assert all(0 <= distance < 64 for distance in distances)
    assert similarity_study(model, [x]).heads
    shown = query_attention(model, x[:1], [[0]])
    sums = [sum(map(sum, head)) for layer in shown.layers for head in layer.maps if layer.whole]
    assert sums or not any(layer.whole for layer in shown.layers)
    assert sums == pytest.approx([1.0] * len(sums), abs=1e-4)
