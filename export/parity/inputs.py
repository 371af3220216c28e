"""Inputs that an export is tested with: noise, real images, a constant and extreme values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.catalog.tables import sample_images
from zoo.catalog.weights_records import InputSpec

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TestInputs:
    """Inputs with what each row is.

    Args:
        batch: float32 (n, C, H, W), normalised.
        kinds: one of "noise", "real", "constant", "extreme" per row.
    """

    __test__ = False  # not a test class

    batch: Array
    kinds: tuple[str, ...]


def make_inputs(spec: InputSpec, seed: int = 0) -> TestInputs:
    """Ten rows: four of normal noise, four real scans, mid grey, and random black-or-white pixels.

    The real images are handwritten digits of the validation part that ship with the package,
    resized by the input spec, for every model: reports compare the same inputs.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    shape = (spec.in_chans, *spec.size)
    noise = generator.standard_normal((4, *shape), dtype=np.float32)
    mean = np.asarray(spec.mean, np.float32).reshape(-1, 1, 1)
    std = np.asarray(spec.std, np.float32).reshape(-1, 1, 1)
    constant = np.broadcast_to((np.float32(0.5) - mean) / std, shape)
    pixels = generator.integers(0, 2, shape).astype(np.float32)
    extreme = (pixels - mean) / std
    real = [_real(path, spec) for path in sample_images("digits")[:4]]
    batch = np.stack([*noise, *real, constant, extreme]).astype(np.float32)
    kinds = ("noise",) * 4 + ("real",) * 4 + ("constant", "extreme")
    return TestInputs(np.ascontiguousarray(batch), kinds)


def _real(path: Path, spec: InputSpec) -> Array:
    from zoo.data.preprocessing import preprocess

    if spec.in_chans in (1, 3):
        return preprocess(path, spec)
    grey = preprocess(path, InputSpec(size=spec.size, in_chans=1, mean=(0.5,), std=(0.5,)))
    return np.repeat(grey, spec.in_chans, axis=0)
