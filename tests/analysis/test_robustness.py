"""Noise, filters, corruptions, lesions: against naive forms and models with known answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from tests.analysis.models import Classifier, Wrapped, batches
from zoo.analysis.lesion import lesion_study
from zoo.analysis.noise import NoiseSettings, band_mask, band_noise, filter_images, noise_study
from zoo.analysis.robustness import ALEXNET_IMAGENET_C, Reference, corruption_robustness
from zoo.data.corruptions import CORRUPTIONS as PUBLISHED
from zoo.data.damage import CORRUPTIONS, corrupt
from zoo.errors import AnalysisError, ConfigError


def naive_mask(side: int, f: float, s: float) -> np.ndarray:
    """The ring between two centred squares, entry by entry."""
    outer, inner = (
        min(max(2 * int(bound * side / (2 * math.pi)), 0), side) for bound in (f + s, f - s)
    )
    mask = np.zeros((side, side), dtype=bool)
    for y in range(side):
        for x in range(side):
            in_outer = all(-outer / 2 <= c - side // 2 < outer / 2 for c in (y, x))
            in_inner = all(-inner / 2 <= c - side // 2 < inner / 2 for c in (y, x))
            mask[y, x] = in_outer and not in_inner
    return mask


@pytest.mark.parametrize("f", [0.0, 0.3, 1.0, 2.0, math.pi])
def test_bands_are_rings_of_the_shifted_spectrum(f: float) -> None:
    np.testing.assert_array_equal(band_mask((32, 32), f), naive_mask(32, f, 0.2))


def test_noise_stays_in_its_band_for_any_channels_and_size() -> None:
    f = 1.5
    noise = band_noise((2, 5, 24, 40), f, 0.7)
    assert noise.dtype == np.float32
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2(noise), axes=(-2, -1)))
    outside = ~band_mask((24, 40), f)
    outside &= ~np.roll(outside[::-1, ::-1] == 0, 1, (0, 1))  # the real part mirrors the band
    assert spectrum[..., outside].max() < 1e-3
    assert spectrum[..., band_mask((24, 40), f)].mean() > 1


def test_low_and_high_pass_add_up_to_the_image_and_keep_its_mean() -> None:
    images = np.random.default_rng(0).random((2, 3, 16, 12), dtype=np.float32)
    low, high = (filter_images(images, 1.0, keep) for keep in ("low", "high"))
    mean = images.mean((-2, -1), keepdims=True)
    np.testing.assert_allclose(low + high - mean, images, atol=1e-5)
    axis = np.arange(16)
    wave = np.cos(2 * math.pi * 3 * axis / 16)[:, None] * np.ones(16)  # frequency 3/8 pi = 1.18
    np.testing.assert_allclose(filter_images(wave, 1.2, "low"), wave, atol=1e-6)
    np.testing.assert_allclose(filter_images(wave, 1.2, "high"), 0, atol=1e-6)
    with pytest.raises(ConfigError, match="keep must be one of low, high; got 'middle'"):
        filter_images(wave, 1.0, "middle")


def _by_mean(pixels: np.ndarray) -> np.ndarray:
    """A classifier that looks at the mean of an image alone: no band but the lowest moves it."""
    positive = pixels.mean((1, 2, 3)) > 0
    return np.stack([~positive, positive], axis=1).astype(np.float32)


def test_a_classifier_of_the_mean_is_robust_to_high_frequencies() -> None:
    signs = np.repeat([1, -1], 20)
    images = (0.05 * signs)[:, None, None, None] * np.ones((40, 3, 16, 16), dtype=np.float32)
    found = noise_study(_by_mean, images, (signs > 0).astype(int), NoiseSettings((0.0, 0.5, 1.0)))
    assert found.clean.percent == 100
    assert [band.drop_percent for band in found.noise[1:]] == [0, 0]
    assert found.low_pass[0].accuracy.percent == found.high_pass[2].accuracy.percent == 100
    assert [row["test"] for row in found.rows()] == ["noise"] * 3 + ["low_pass"] * 3 + [
        "high_pass"
    ] * 3


def test_the_interval_of_a_drop_is_paired() -> None:
    images = np.ones((10, 1, 4, 4), dtype=np.float32) * np.linspace(-1, 1, 10)[:, None, None, None]
    targets = (images.mean((1, 2, 3)) > 0).astype(int)
    band = noise_study(_by_mean, images, targets, NoiseSettings((1.0,))).noise[0]
    assert band.interval_percent == (0, 0)  # the same images are right: no doubt about the drop


@pytest.mark.parametrize(
    ("images", "targets", "settings", "message"),
    [
        (0, [], {}, "no images"),
        (2, [1, 1], {}, "all 2 images are of class 1"),
        (2, [0, 1], {"bands": (1.5,)}, r"bands \(in units of pi\) must be .* from 0 to 1; got 1.5"),
        (2, [0, 1], {"bands": ()}, "bands must be one frequency or more"),
        (2, [0, 1], {"bands": 0.5}, "bands must be a list or tuple; got 0.5"),
        (2, [0, 1], {"eps": math.nan}, "eps must be a finite number; got nan"),
        (2, [0, 1], {"width": "wide"}, "width must be a finite number.*; got 'wide'"),
    ],
)
def test_bad_input_to_noise_is_refused(
    images: int, targets: list[int], settings: dict[str, Any], message: str
) -> None:
    pixels = np.zeros((images, 3, 8, 8), dtype=np.float32)
    with pytest.raises((AnalysisError, ConfigError), match=message):
        noise_study(_by_mean, pixels, np.array(targets, dtype=int), NoiseSettings(**settings))


def _sets(accuracies: dict[tuple[str, int], int]):
    for (corruption, severity), right in accuracies.items():
        targets = np.array([1] * right + [0] * (10 - right))
        yield corruption, severity, [(np.ones((10, 1, 2, 2), dtype=np.float32), targets)]


def test_the_mean_is_over_sets_and_mce_over_corruptions() -> None:
    accuracies = {("fog", 1): 9, ("fog", 2): 5, ("snow", 1): 2}
    reference = Reference("half", {"fog": 0.5, "snow": 0.5})
    found = corruption_robustness(_by_mean, _sets(accuracies), reference=reference)
    assert [row.accuracy.correct for row in found.table] == [9, 5, 2]
    assert found.mean_percent == pytest.approx((90 + 50 + 20) / 3)
    assert found.mce_percent == pytest.approx(100 * ((0.3 / 0.5) + (0.8 / 0.5)) / 2)
    assert found.by_corruption() == {"fog": 70.0, "snow": 20.0}
    with pytest.raises(AnalysisError, match="no error for fog, snow"):
        corruption_robustness(_by_mean, _sets(accuracies), reference=Reference("none", {}))
    with pytest.raises(AnalysisError, match="no corrupted sets"):
        corruption_robustness(_by_mean, [])
    with pytest.raises(AnalysisError, match="set of fog is empty"):
        corruption_robustness(_by_mean, [("fog", 1, [])])


def test_our_corruptions_have_the_published_names() -> None:
    assert tuple(CORRUPTIONS) == PUBLISHED == tuple(ALEXNET_IMAGENET_C)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_corruptions_are_reproducible_and_grow(corruption: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(40, 216, (32, 32, 3)).astype(np.uint8)
    damaged = [corrupt(image, corruption, severity) for severity in range(1, 6)]
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one in damaged)
    np.testing.assert_array_equal(damaged[2], corrupt(image, corruption, 3))
    distance = [np.abs(one.astype(float) - image).mean() for one in damaged]
    assert 0 < distance[0] < distance[4]


def test_unknown_corruptions_and_severities_are_refused() -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    for corruption, severity in (("rain", 1), ("fog", 6)):
        with pytest.raises(ConfigError, match="corruption is one of gaussian_noise"):
            corrupt(image, corruption, severity)


class Residual(nn.Module):
    """x + a shift of one class."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor([strength, 0.0, 0.0, 0.0]))
        self.part = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(x) + self.shift[:, None, None]


def test_a_lesion_takes_exactly_one_block_out() -> None:
    model = Classifier(Residual(5.0), Residual(0.0), Wrapped(nn.Conv2d(4, 4, 3)))
    found = lesion_study(model, batches())
    assert [lesion.name for lesion in found.lesions] == ["blocks.0", "blocks.1", "blocks.2"]
    assert found.lesions[1].drop_percent == 0
    assert found.lesions[1].interval_percent == (0, 0)
    assert found.lesions[2].accuracy is None
    assert found.lesions[2].note == "changes the shape, (4, 8, 8) to (4, 6, 6)"
    with torch.no_grad():
        images = torch.cat([x for x, _ in batches()])
        targets = torch.cat([y for _, y in batches()])
        without = model.head(model.blocks[2](model.blocks[1](images)).mean((2, 3))).argmax(-1)
    assert found.lesions[0].accuracy.correct == int((without == targets).sum())


def test_lesions_of_a_zoo_model_are_its_branches() -> None:
    model = zoo.create_model("convit_nano", pretrained=True).eval()
    loader = [(torch.randn(6, 3, 32, 32), torch.arange(6))]
    found = lesion_study(model, loader)
    names = [lesion.name for lesion in found.lesions]
    assert names == ["patch_embed"] + [
        f"blocks.{i}.{part}" for i in range(4) for part in ("attn", "mlp")
    ]
    with torch.no_grad():
        proj = model.blocks[1].attn.proj
        kept = (proj.weight.clone(), proj.bias.clone())
        proj.weight.zero_()
        proj.bias.zero_()
        expected = int((model(loader[0][0]).argmax(-1) == loader[0][1]).sum())
        proj.weight.copy_(kept[0])
        proj.bias.copy_(kept[1])
    assert found.lesions[names.index("blocks.1.attn")].accuracy.correct == expected


def test_one_class_says_nothing() -> None:
    model = Classifier(Residual(1.0))
    with pytest.raises(AnalysisError, match="all 4 images are of class 0"):
        lesion_study(model, [(torch.randn(4, 4, 8, 8), torch.zeros(4, dtype=torch.long))])
    with pytest.raises(AnalysisError, match="needs targets"):
        lesion_study(model, [torch.randn(4, 4, 8, 8)])
