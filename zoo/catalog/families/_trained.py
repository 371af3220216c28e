"""Weights that we train ourselves, on a data set with a record; they lie in the package.

`convattn train --reproduce MODEL` runs the recipe again, where one is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._data_sets import DATA_SETS
from ..weights_records import InputSpec, WeightsRecord

NANO_INPUT = InputSpec(
    size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic", crop_pct=1.0
)  # of our own small models
_FASHION_INPUT = InputSpec(
    size=(28, 28), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=1.0
)  # as the images are


def digits_weights(
    model: str,
    version: str,
    sha256: str,
    size_bytes: int,
    *,
    recipe: str = "",
    seed: int = 0,
) -> WeightsRecord:
    """Of scikit-learn's handwritten digits, at the model's own input."""
    return _trained(model, "digits", version, sha256, size_bytes, recipe=recipe, seed=seed)


def fashion_mnist_weights(
    model: str,
    version: str,
    sha256: str,
    size_bytes: int,
    *,
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> WeightsRecord:
    """Of Fashion-MNIST, at its 28 x 28 pixels.

    Args:
        overrides: ``{"img_size": 28}`` where the model has that keyword.
    """
    return _trained(
        model,
        "fashion_mnist",
        version,
        sha256,
        size_bytes,
        recipe="fashion_mnist",
        seed=seed,
        input=_FASHION_INPUT,
        overrides=overrides or {},
    )


def _trained(
    model: str, data: str, version: str, sha256: str, size_bytes: int, **facts: Any
) -> WeightsRecord:
    return WeightsRecord(
        model=model,
        tag=data,
        version=version,
        bundled=f"{model}.{data}-{version}.safetensors",
        sha256=sha256,
        size_bytes=size_bytes,
        architecture_versions=(1,),
        labels=data,
        dataset=f"{DATA_SETS[data].title}, training part",
        licence="Apache-2.0",
        **facts,
    )
