"""Accuracy under noise of one frequency band, and on images filtered to low or high frequencies.

Noise: Park & Kim, *How Do Vision Transformers Work?*, arXiv:2202.06709, figure 2b; recipe of
how-do-vits-work's `FreqAttack`. Where we differ: any number of channels and any image size.
Filters: as usual for questions of shape against texture (e.g. Yin et al., arXiv:1906.08988).
Everything here takes a function from arrays to logits, so exported files are measured too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import AnalysisError, ConfigError
from ..evaluation.checks import check_choice, check_list, check_number
from ..evaluation.evaluate import Accuracy
from ._answers import are_right, check_classes, read_targets
from ._features import OnStep, ignore
from ._figure import legend_above, panels, save, series, tidy
from ._results import Z95, Result

Array = np.ndarray[Any, Any]
Logits = Callable[[Array], Array]
_BATCH = 64  # images at once

DEFINITION = (
    "accuracy on images plus noise of one frequency band: signs of normal noise times {eps:g}, on "
    "normalised pixels, kept between centred squares of side 2 int((f - s) H / 2 pi) and 2 int((f "
    "+ s) H / 2 pi) of the shifted spectrum, s = {width:g}; the real part of its inverse. "
    "Low-pass images keep frequencies up to f in both axes, high-pass images the others and the "
    "mean."
)


def _edge(frequency: float, side: int) -> int:
    """Half the side of a centred square, in entries of the spectrum."""
    return int(np.clip(2 * int(frequency * side / (2 * math.pi)), 0, side)) // 2


def band_mask(size: tuple[int, int], frequency: float, width: float = 0.2) -> Array:
    """Which entries of the shifted spectrum belong to the band. Bool (H, W).

    Args: frequency, width: f and s in radians per pixel, f in [0, pi].
    """

    def square(bound: float) -> Array:
        keep = np.zeros(size, dtype=bool)
        rows, columns = (_centred(side, _edge(bound, side)) for side in size)
        keep[rows, columns] = True
        return keep

    ring: Array = square(frequency + width) & ~square(frequency - width)
    return ring


def _centred(side: int, half: int) -> slice:
    centre = side // 2
    return slice(max(0, centre - half), min(side, centre + half))


def band_noise(
    shape: Sequence[int],
    frequency: float,
    eps: float,
    width: float = 0.2,
    generator: np.random.Generator | None = None,
) -> Array:
    """Noise of one frequency band. Returns: float32 of `shape` (..., H, W)."""
    generator = generator or np.random.default_rng(0)
    noise = eps * np.sign(generator.standard_normal(tuple(shape)))
    spectrum = np.fft.fftshift(np.fft.fft2(noise), axes=(-2, -1))
    spectrum *= band_mask((shape[-2], shape[-1]), frequency, width)
    kept: Array = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(-2, -1))).real.astype(np.float32)
    return kept


def filter_images(images: Array, frequency: float, keep: str) -> Array:
    """Images with the frequencies up to `frequency` (keep="low") or above it (keep="high").

    Args: images: (..., H, W); frequency: in radians per pixel, per axis. The mean always stays.
    Raises: ConfigError for another `keep`.
    """
    check_choice("keep", keep, ("low", "high"))
    axes = [2 * math.pi * np.abs(np.fft.fftfreq(side)) for side in images.shape[-2:]]
    low = np.maximum(axes[0][:, None], axes[1][None, :]) <= frequency + 1e-9
    mask = low if keep == "low" else ~low
    mask[0, 0] = True
    kept: Array = np.fft.ifft2(np.fft.fft2(images) * mask).real.astype(np.float32)
    return kept


@dataclass(frozen=True)
class NoiseSettings:
    """What noise: frequencies `bands` in units of pi, amplitude `eps` on normalised pixels, half
    width `width` of a band in radians, `seed`.

    Raises: ConfigError for bands outside [0, 1], or amplitudes and widths that are no numbers.
    """

    bands: tuple[float, ...] = tuple(k / 10 for k in range(11))
    eps: float = 0.7
    width: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        bands = check_list("bands", self.bands)
        if not bands:
            raise ConfigError("bands must be one frequency or more; got none")
        for band in bands:
            check_number("bands (in units of pi)", band, 0, 1)
        check_number("eps", self.eps)
        check_number("width", self.width, 0)


@dataclass(frozen=True)
class BandAccuracy:
    """Accuracy at one frequency, in units of pi; the drop is paired with the clean images."""

    frequency: float
    accuracy: Accuracy
    drop_percent: float
    interval_percent: tuple[float, float]


@dataclass(frozen=True)
class NoiseResult(Result):
    """Clean accuracy, accuracy under noise of every band, on low-pass and on high-pass images."""

    eps: float
    width: float
    clean: Accuracy
    noise: tuple[BandAccuracy, ...]
    low_pass: tuple[BandAccuracy, ...]
    high_pass: tuple[BandAccuracy, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": self.model,
                "test": test,
                "frequency_pi": band.frequency,
                "acc1_percent": band.accuracy.percent,
                "drop_percent": band.drop_percent,
                "low": band.interval_percent[0],
                "high": band.interval_percent[1],
            }
            for test in ("noise", "low_pass", "high_pass")
            for band in getattr(self, test)
        ]

    def plot(self, path: str | Path) -> None:

        plot_noise([self], path)


def noise_study(
    logits: Logits,
    images: Array,
    targets: Array,
    settings: NoiseSettings | None = None,
    name: str = "model",
    on_step: OnStep = ignore,
) -> NoiseResult:
    """Accuracy under band-limited noise and on filtered images.

    Args:
        logits: float32 (B, C, H, W) -> (B, classes).
        images: preprocessed, float32 (n, C, H, W); targets: (n,).
        on_step: called after every band with their number so far.
    Raises: AnalysisError for no images, one class only, or as `lesion_study` does.
    """
    settings = settings or NoiseSettings()
    images = np.asarray(images)
    if images.ndim != 4 or images.dtype.kind != "f":
        raise AnalysisError(
            f"images are float arrays (n, C, H, W), prepared; got {images.dtype} {images.shape}"
        )
    if len(images) == 0:
        raise AnalysisError("no images to evaluate on; pass at least two", code="empty_loader")
    right = read_targets(targets, len(images))
    check_classes(right)
    generator = np.random.default_rng(settings.seed)
    whole = _correct(logits, images, right)

    def noisy(f: float) -> Array:
        return images + band_noise(
            images.shape, f * math.pi, settings.eps, settings.width, generator
        )

    tests: tuple[Callable[[float], Array], ...] = (
        noisy,
        lambda f: filter_images(images, f * math.pi, "low"),
        lambda f: filter_images(images, f * math.pi, "high"),
    )
    found: list[tuple[BandAccuracy, ...]] = []
    for make in tests:
        rows = []
        for f in settings.bands:
            rows.append(_compared(f, whole, _correct(logits, make(f), right)))
            on_step(len(found) * len(settings.bands) + len(rows))
        found.append(tuple(rows))
    text = DEFINITION.format(eps=settings.eps, width=settings.width)
    return NoiseResult(name, text, settings.eps, settings.width, _accuracy(whole), *found)


def _accuracy(correct: Array) -> Accuracy:
    return Accuracy(int(correct.sum()), len(correct))


def _compared(frequency: float, whole: Array, left: Array) -> BandAccuracy:
    lost = 100.0 * (whole.astype(np.float64) - left)
    drop = float(lost.mean())
    half = Z95 * float(lost.std(ddof=1)) / math.sqrt(len(lost)) if len(lost) > 1 else 0.0
    return BandAccuracy(frequency, _accuracy(left), drop, (drop - half, drop + half))


def _correct(logits: Logits, images: Array, targets: Tensor) -> Array:
    starts = range(0, len(images), _BATCH)
    parts = [slice(start, start + _BATCH) for start in starts]
    rows = [are_right(logits(images[part]), targets[part]).numpy() for part in parts]
    return np.concatenate(rows)


def plot_noise(results: Sequence[NoiseResult], path: str | Path) -> None:
    """Accuracy drop under noise of every band; accuracy on low-pass and on high-pass images."""
    figure, (noise, low, high) = panels(3, 3, 4.0, 3.2)
    for number, result in enumerate(results):
        style = series(number)
        x = [band.frequency for band in result.noise]
        drops = [band.drop_percent for band in result.noise]
        noise.plot(x, drops, label=result.model, **style)
        edges = list(zip(*(band.interval_percent for band in result.noise), strict=True))
        noise.fill_between(x, edges[0], edges[1], color=style["color"], alpha=0.15, lw=0)
        for axes, bands in ((low, result.low_pass), (high, result.high_pass)):
            f = [band.frequency for band in bands]
            axes.plot(f, [band.accuracy.percent for band in bands], label=result.model, **style)
            ends = list(zip(*(band.accuracy.interval_percent for band in bands), strict=True))
            axes.fill_between(f, ends[0], ends[1], color=style["color"], alpha=0.15, lw=0)
    noise.set_ylabel("accuracy drop (percentage points)")
    noise.set_xlabel("frequency of the noise (units of π)")
    noise.set_title(f"noise of one band, ε = {results[0].eps:g} on normalised pixels")
    for axes, what in ((low, "low-pass: up to"), (high, "high-pass: above")):
        axes.set_ylabel("accuracy (%)")
        axes.set_xlabel(f"{what} this frequency (units of π)")
        axes.set_ylim(0, 102)
    low.set_title("only low frequencies kept")
    high.set_title("only high frequencies and the mean kept")
    for axes in (noise, low, high):
        tidy(axes)
    legend_above(figure)
    save(figure, path)
