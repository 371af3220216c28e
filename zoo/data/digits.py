"""scikit-learn's handwritten digits: 1,797 real scans of 8 x 8 pixels, with one fixed split.

The scans are the test part of E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten
Digits*, UCI Machine Learning Repository 1998, doi:10.24432/C50P49, as shipped by scikit-learn.

Split: within each class, scans are ordered by the SHA-256 of their 64 pixel values, which depends
on nothing but the scan; the first fifth (rounded up) is the test part, the next fifth validation,
the rest training. Identical scans therefore stay together in one part unless they straddle a
boundary.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..catalog._data_sets import DATA_SETS
from ..errors import ConfigError, MissingDependencyError
from .dataset import ImageDataset, in_memory

Array = np.ndarray[Any, Any]
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class ImageData:
    """Images and labels in memory.

    Args:
        images: uint8 (n, H, W, 3).
        targets: int64 (n,).
        labels: class names.
        name: e.g. "digits/test".
    """

    images: Array
    targets: Array
    labels: tuple[str, ...]
    name: str


@functools.cache
def load_digits(part: str) -> ImageData:
    """One part of the digits.

    Args:
        part: "train" (1,069 scans), "validation" (364) or "test" (364).
    Returns: 8 x 8 scans as uint8 = round(v * 255 / 16) in three equal channels.
    Raises: MissingDependencyError without scikit-learn, ConfigError for another part.
    """
    if part not in PARTS:
        raise ConfigError(f"digits has the parts {', '.join(PARTS)}; got {part!r}")
    try:
        from sklearn.datasets import load_digits as load
    except ImportError:
        raise MissingDependencyError(
            "the digits come with scikit-learn: pip install 'convattn-zoo[train]'"
        ) from None
    bunch = load()
    scans = np.asarray(bunch.images)  # (1797, 8, 8), integers 0..16
    targets = np.asarray(bunch.target, dtype=np.int64)
    chosen = _split(scans, targets)[part]
    grey = np.round(scans[chosen] * 255 / 16).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=-1)
    return ImageData(images, targets[chosen], DATA_SETS["digits"].labels, f"digits/{part}")


def open_digits(part: str) -> ImageDataset:
    """One part of the digits as a data set. Raises: see `load_digits`."""
    data = load_digits(part)
    return in_memory(data.name, data.labels, data.images, data.targets)


def _split(scans: Array, targets: Array) -> dict[str, Array]:
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for digit in range(10):
        members = np.flatnonzero(targets == digit)
        keys = [hashlib.sha256(scans[i].astype(np.uint8).tobytes()).digest() for i in members]
        ordered = [int(i) for _, i in sorted(zip(keys, members, strict=True))]
        fifth = -(-len(ordered) // 5)
        parts["test"] += ordered[:fifth]
        parts["validation"] += ordered[fifth : 2 * fifth]
        parts["train"] += ordered[2 * fifth :]
    return {part: np.asarray(sorted(indices)) for part, indices in parts.items()}
