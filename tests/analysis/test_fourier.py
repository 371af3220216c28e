"""Fourier analysis, feature-map variance and layer gains against signals with known spectra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from tests.analysis.models import Classifier, Wrapped, batches, blur, laplacian
from zoo.analysis._maps import token_grid
from zoo.analysis._units import Unit, find_units
from zoo.analysis.filters import layer_gains, random_layer_gains
from zoo.analysis.fourier import fourier_analysis, frequencies, log_amplitudes
from zoo.analysis.variance import feature_variance, map_variances
from zoo.errors import AnalysisError


def naive_curve(maps: np.ndarray) -> np.ndarray:
    """The notebook's steps with numpy: shift, mean, diagonal, half."""
    f = np.log(np.abs(np.fft.fft2(maps)) + 1e-6)
    height, width = maps.shape[-2:]
    f = np.roll(f, (height // 2, width // 2), axis=(2, 3)).mean((0, 1))
    curve = np.diagonal(f)[height // 2 :]
    return curve - curve[0]


def relative_curve(maps: torch.Tensor) -> torch.Tensor:
    """log A(f) - log A(0), mean over the images."""
    curve = log_amplitudes(maps).mean(0)
    return curve - curve[0]


@pytest.mark.parametrize("side", [4, 7, 8, 13])
def test_curves_equal_the_notebooks_steps(side: int) -> None:
    maps = torch.randn(3, 5, side, side, dtype=torch.float64)
    np.testing.assert_allclose(relative_curve(maps), naive_curve(maps.numpy()), atol=1e-12)


def test_a_sinusoid_peaks_at_its_own_frequency() -> None:
    k, side = 3, 16
    axis = torch.arange(side, dtype=torch.float64)
    wave = torch.cos(2 * math.pi * k * (axis[:, None] + axis[None]) / side)
    curve = log_amplitudes(wave[None, None])[0]
    assert int(curve.argmax()) == k
    assert frequencies(len(curve), side)[k] == 2 * k / side
    assert curve[k] - curve[k + 1] > 10  # a pure tone


def test_white_noise_is_flat() -> None:
    generator = torch.Generator().manual_seed(0)
    curve = relative_curve(torch.randn(64, 32, 16, 16, generator=generator))
    # at frequency 0 the amplitude of real noise is |N| instead of a Rayleigh variable
    assert float((curve[1:] - curve[1:].mean()).abs().max()) < 0.05


def test_a_constant_map_has_nothing_but_frequency_zero() -> None:
    curve = relative_curve(torch.full((1, 2, 8, 8), 3.0))
    assert float(curve[1:].max()) < -15
    assert map_variances(torch.full((2, 3, 5, 5), 7.0)).tolist() == [0.0, 0.0]


def test_maps_need_not_be_square() -> None:
    wave = torch.zeros(1, 1, 8, 16)
    assert relative_curve(wave).shape == (4,)


def test_variance_is_unbiased_and_per_channel() -> None:
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    expected = np.mean([np.var(m.numpy(), ddof=1) for image in maps for m in image])
    assert float(map_variances(maps).mean()) == pytest.approx(expected, rel=1e-12)


def test_a_low_pass_and_a_high_pass_filter_are_told_apart() -> None:
    model = Classifier(Wrapped(blur(4)), Wrapped(laplacian(4)))
    low, high = layer_gains(model, batches()).layers
    assert low.gain.high < -0.5
    assert high.gain.low > 0.2
    spectra = fourier_analysis(model, batches()).units
    assert spectra[1].change > 0 > spectra[0].high_frequency.mean
    variances = feature_variance(model, batches()).units
    assert variances[0].variance.high < 0.5  # a blur averages noise away


def test_the_identity_has_no_gain() -> None:
    class Identity2d(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    made = {"identity": ("convolution", lambda: Identity2d(32, 32, 3))}
    [layer] = random_layer_gains(made, seeds=2).layers
    assert layer.gain.mean == 0.0


def test_permuting_and_splitting_batches_changes_nothing() -> None:
    model = zoo.create_model("convit_nano", pretrained=True)
    x = torch.randn(6, 3, 32, 32)
    for study in (fourier_analysis, feature_variance):
        one = study(model, [x])
        other = study(model, [x[[5, 3, 1]], x[[0, 2, 4]]])
        for a, b in zip(one.rows(), other.rows(), strict=True):
            numbers = {key for key in ("high_frequency", "variance", "low") if key in a}
            assert numbers
            assert {key: b[key] for key in numbers} == pytest.approx(
                {key: a[key] for key in numbers}, rel=1e-4
            )


def test_transformer_blocks_have_two_units_and_class_tokens_are_left_out() -> None:
    model = zoo.create_model("convit_nano", pretrained=True)
    units = find_units(model)
    assert [unit.kind for unit in units] == ["convolution"] + ["attention", "mlp"] * 4
    found = fourier_analysis(model, [torch.randn(2, 3, 32, 32)])
    assert {len(unit.amplitudes) for unit in found.units} == {4}  # 8 x 8 patches everywhere


@pytest.mark.parametrize(
    ("tokens", "image", "expected"),
    [
        (64, (32, 32), (0, (8, 8))),
        (65, (32, 32), (1, (8, 8))),
        (198, (224, 224), (2, (14, 14))),
        (12 * 8, (30, 48), (0, (8, 12))),
        (12 * 8 + 1, (30, 48), (1, (8, 12))),
    ],
)
def test_the_grid_of_tokens_follows_from_their_number(
    tokens: int, image: tuple[int, int], expected: tuple[int, tuple[int, int]]
) -> None:
    assert token_grid(tokens, image) == expected


def test_tokens_without_a_grid_are_refused() -> None:
    with pytest.raises(AnalysisError, match="61 tokens are no grid of square patches"):
        token_grid(61, (32, 32))


def test_a_model_without_spatial_maps_is_refused() -> None:
    model = Classifier(nn.Identity())
    unit = Unit("head", "mlp", "head")
    with pytest.raises(AnalysisError, match=r"head passes on shape \(4, 3\).*no spatial map"):
        fourier_analysis(model, batches(), [unit])
    with pytest.raises(AnalysisError, match="has no blocks"):
        find_units(nn.Linear(3, 3))


def test_values_that_are_not_finite_name_their_layer() -> None:
    model = Classifier(Wrapped(nn.Conv2d(4, 4, 3)), Wrapped(nn.Conv2d(4, 4, 3)))
    with torch.no_grad():
        model.blocks[1].part.weight.fill_(float("nan"))
    with pytest.raises(AnalysisError, match=r"activations of blocks\.1 are not finite"):
        fourier_analysis(model, batches())


def test_an_empty_loader_and_unknown_modules_are_refused() -> None:
    model = Classifier(Wrapped(blur(4)))
    with pytest.raises(AnalysisError, match="yields no images"):
        fourier_analysis(model, [])
    with pytest.raises(AnalysisError, match=r"no modules \['nothing'\]"):
        find_units(model, ["nothing"])


def test_a_bias_is_no_filter() -> None:
    conv = nn.Conv2d(4, 4, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(4)[:, :, None, None])
        conv.bias.fill_(9.0)
    made = {"shifted identity": ("convolution", lambda: conv)}
    [layer] = random_layer_gains(made, channels=4, seeds=2).layers
    assert layer.gain.mean == pytest.approx(0, abs=1e-3)
