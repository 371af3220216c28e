"""Fifteen corruptions at five severities for images of any data: our own simple forms.

They carry the names of Hendrycks & Dietterich, arXiv:1903.12261, and the same kinds of damage, but
neither their code nor their strengths: accuracies compare models with each other, not with numbers
on CIFAR-C or ImageNet-C. Only numpy and Pillow; reproducible from a seed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ConfigError
from .dataset import ImageDataset

Array = np.ndarray[Any, Any]
Generator = np.random.Generator


def corrupt(image: Array, corruption: str, severity: int, seed: int = 0) -> Array:
    """A damaged copy.

    Args: image: uint8 (H, W, 3); corruption: a key of `CORRUPTIONS`; severity: 1 to 5.
    Raises: ConfigError for another name or severity.
    """
    if corruption not in CORRUPTIONS or severity not in range(1, 6):
        raise ConfigError(
            f"corruption is one of {', '.join(CORRUPTIONS)} and severity 1 to 5; got "
            f"{corruption!r}, {severity}"
        )
    function, strengths = CORRUPTIONS[corruption]
    generator = np.random.default_rng([seed, severity, *corruption.encode()])
    x = function(image.astype(np.float64) / 255, strengths[severity - 1], generator)
    found: Array = np.round(x.clip(0, 1) * 255).astype(np.uint8)
    return found


def damaged_sets(
    images: ImageDataset, size: tuple[int, int], seed: int = 0
) -> Iterator[tuple[str, int, Damaged]]:
    """(corruption, severity, the images damaged so) for every corruption at every severity.

    Args: size: (height, width) of a model's input, at which corruptions have their meaning.
    """
    height, width = size
    sized = [
        np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
        for image, _ in images
    ]
    for corruption in CORRUPTIONS:
        for severity in range(1, 6):
            yield corruption, severity, Damaged(sized, images.targets, corruption, severity, seed)


@dataclass(frozen=True)
class Damaged:
    """Images damaged when they are read; every image has noise of its own."""

    images: Sequence[Array]
    targets: Array
    corruption: str
    severity: int
    seed: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Array, int]:
        seed = self.seed * 1_000_003 + index
        image = corrupt(self.images[index], self.corruption, self.severity, seed)
        return image, int(self.targets[index])


def _gaussian_noise(x: Array, s: float, g: Generator) -> Array:
    return np.asarray(x + s * g.standard_normal(x.shape))


def _shot_noise(x: Array, s: float, g: Generator) -> Array:
    return np.asarray(g.poisson(x * s) / s)


def _impulse_noise(x: Array, s: float, g: Generator) -> Array:
    hit = g.random(x.shape[:2])[..., None]
    return np.where(hit < s / 2, 0.0, np.where(hit < s, 1.0, x))


def _blur_with(x: Array, kernel: Array) -> Array:
    half = kernel.shape[0] // 2
    padded = np.pad(x, ((half, half), (half, half), (0, 0)), mode="edge")
    out = np.zeros_like(x)
    for (i, j), weight in np.ndenumerate(kernel / kernel.sum()):
        if weight:
            out += weight * padded[i : i + x.shape[0], j : j + x.shape[1]]
    return out


def _axes(radius: float) -> tuple[Array, Array]:
    half = int(np.ceil(radius))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    return y, x


def _defocus_blur(x: Array, s: float, _: Generator) -> Array:
    dy, dx = _axes(s)
    return _blur_with(x, np.clip(s + 0.5 - np.hypot(dy, dx), 0, 1))


def _glass_blur(x: Array, s: float, g: Generator) -> Array:
    height, width = x.shape[:2]
    y, c = np.mgrid[:height, :width].astype(np.float64)
    y += g.uniform(-s, s, y.shape)
    c += g.uniform(-s, s, c.shape)
    return _defocus_blur(_sample(x, y, c), 0.7, g)


def _motion_blur(x: Array, s: float, g: Generator) -> Array:
    dy, dx = _axes(s)
    angle = g.uniform(0, np.pi)
    along, across = (
        dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle),
    )  # fmt: skip
    return _blur_with(x, np.clip(1 - np.abs(across), 0, 1) * (np.abs(along) <= s))


def _zoom_blur(x: Array, s: float, _: Generator) -> Array:
    height, width = x.shape[:2]
    y, c = np.mgrid[:height, :width].astype(np.float64)
    cy, cx = (height - 1) / 2, (width - 1) / 2
    zooms = np.linspace(1, s, 8)
    return np.asarray(
        np.mean([_sample(x, cy + (y - cy) / z, cx + (c - cx) / z) for z in zooms], axis=0)
    )


def _snow(x: Array, s: float, g: Generator) -> Array:
    flakes = (g.random(x.shape[:2]) < s).astype(np.float64)[..., None]
    streaks = _motion_blur(np.repeat(flakes, 3, axis=2), 2, g)
    return np.asarray(0.85 * x + 0.15 * s + 1.5 * streaks)


def _frost(x: Array, s: float, g: Generator) -> Array:
    crystals = np.abs(_clouds(x.shape[:2], g, 1.0) - 0.5) < 0.12
    ice = _defocus_blur(np.repeat(crystals[..., None].astype(np.float64), 3, axis=2), 0.7, g)
    return np.asarray((1 - 0.4 * s) * x + s * ice)


def _fog(x: Array, s: float, g: Generator) -> Array:
    return np.asarray((x + s * _clouds(x.shape[:2], g, 1.8)[..., None]) / (1 + s))


def _brightness(x: Array, s: float, _: Generator) -> Array:
    return np.asarray(x + s)


def _contrast(x: Array, s: float, _: Generator) -> Array:
    mean = x.mean((0, 1), keepdims=True)
    return np.asarray((x - mean) * s + mean)


def _elastic_transform(x: Array, s: float, g: Generator) -> Array:
    height, width = x.shape[:2]
    y, c = np.mgrid[:height, :width].astype(np.float64)
    y += s * (2 * _clouds((height, width), g, 2.5) - 1)
    c += s * (2 * _clouds((height, width), g, 2.5) - 1)
    return _sample(x, y, c)


def _pixelate(x: Array, s: float, _: Generator) -> Array:
    image = Image.fromarray(np.round(x * 255).astype(np.uint8))
    small = (max(1, round(image.width * s)), max(1, round(image.height * s)))
    image = image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)
    return np.asarray(image) / 255


def _jpeg_compression(x: Array, s: float, _: Generator) -> Array:
    buffer = io.BytesIO()
    Image.fromarray(np.round(x * 255).astype(np.uint8)).save(buffer, "JPEG", quality=int(s))
    return np.asarray(Image.open(buffer).convert("RGB")) / 255


def _sample(x: Array, rows: Array, columns: Array) -> Array:
    """Bilinear values at places, edges repeated."""
    rows = rows.clip(0, x.shape[0] - 1)
    columns = columns.clip(0, x.shape[1] - 1)
    y0, x0 = np.floor(rows).astype(int), np.floor(columns).astype(int)
    y1, x1 = np.minimum(y0 + 1, x.shape[0] - 1), np.minimum(x0 + 1, x.shape[1] - 1)
    dy, dx = (rows - y0)[..., None], (columns - x0)[..., None]
    upper = x[y0, x0] * (1 - dx) + x[y0, x1] * dx
    lower = x[y1, x0] * (1 - dx) + x[y1, x1] * dx
    return np.asarray(upper * (1 - dy) + lower * dy)


def _clouds(size: tuple[int, int], g: Generator, slope: float) -> Array:
    """Noise with a 1 / f ** slope spectrum, scaled to [0, 1]."""
    fy, fx = (np.fft.fftfreq(side) for side in size)
    radius = np.hypot(fy[:, None], fx[None])
    radius[0, 0] = np.inf
    noise = np.fft.ifft2(np.fft.fft2(g.standard_normal(size)) / radius**slope).real
    return np.asarray((noise - noise.min()) / (np.ptp(noise) + 1e-12))


Corruption = tuple[Callable[[Array, float, Generator], Array], tuple[float, ...]]
CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": (_gaussian_noise, (0.08, 0.14, 0.22, 0.32, 0.45)),
    "shot_noise": (_shot_noise, (50, 20, 10, 5, 2.5)),
    "impulse_noise": (_impulse_noise, (0.03, 0.07, 0.14, 0.24, 0.36)),
    "defocus_blur": (_defocus_blur, (1, 1.75, 2.5, 3.25, 4)),
    "glass_blur": (_glass_blur, (0.75, 1.5, 2.5, 3.5, 5)),
    "motion_blur": (_motion_blur, (2, 3, 4, 5.5, 7)),
    "zoom_blur": (_zoom_blur, (1.15, 1.3, 1.5, 1.75, 2)),
    "snow": (_snow, (0.03, 0.06, 0.1, 0.16, 0.24)),
    "frost": (_frost, (0.3, 0.45, 0.6, 0.75, 0.9)),
    "fog": (_fog, (0.4, 0.8, 1.3, 2, 3)),
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (_contrast, (0.6, 0.4, 0.25, 0.15, 0.08)),
    "elastic_transform": (_elastic_transform, (2, 3.5, 5, 7, 9)),
    "pixelate": (_pixelate, (0.5, 0.35, 0.25, 0.2, 0.15)),
    "jpeg_compression": (_jpeg_compression, (25, 15, 10, 6, 3)),
}
