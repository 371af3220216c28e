"""Images for int8: to calibrate its ranges on, and, with labels, to measure what it loses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import PretrainedCfg
from zoo.errors import MissingDependencyError
from zoo.preprocessing import list_images, preprocess

from ..comparison.samples import make_inputs, sample_images

if TYPE_CHECKING:
    from zoo.datasets import ImageDataset

IMAGES = 128  # images that static int8 is calibrated on, at most
_SEEDS = (1001, 1002, 1003, 1004)  # of noise to calibrate on; parity is measured on other noise
_DATASETS = {"digits": "digits"}  # tag of the weights -> data that ship with the package
Array = np.ndarray[Any, Any]


def calibration_batches(cfg: PretrainedCfg, folder: Path | None) -> tuple[list[Array], str]:
    """Images prepared for the model, one per batch, and what they are: real ones, and noise,
    constants and extreme values, which would leave the ranges that real images span.

    Args: folder: images of the user's, or None: training images of the data that the weights were
        trained on where they ship with a package, else the sample images of ours.
    Raises: ImageError, NotFoundError.
    """
    real, source = _real_images(cfg, folder)
    batches = [preprocess(image, cfg.input)[None] for image in real]
    for seed in _SEEDS:
        inputs = make_inputs(cfg.input, seed)
        rows = [row for row, kind in enumerate(inputs.kinds) if kind != "real"]
        batches += [inputs.batch[row : row + 1] for row in rows]
    made = len(batches) - len(real)
    return batches, f"{len(real)} {source}, {made} of noise, constants and extreme values"


def _real_images(cfg: PretrainedCfg, folder: Path | None) -> tuple[list[Any], str]:
    """At most `IMAGES` images, evenly spread, and whose they are."""
    if folder is not None:
        paths = list_images([str(folder)])
        return [paths[i] for i in spread(len(paths), IMAGES)], "of your own"
    data = dataset_of(cfg, "train")
    if data is not None:
        return [data[i][0] for i in spread(len(data), IMAGES)], f"of {data.name}"
    return list(sample_images()), "sample images"


def dataset_of(cfg: PretrainedCfg, part: str) -> ImageDataset | None:
    """The data that the weights were trained on, where they ship with a package."""
    name = _DATASETS.get(cfg.tag)
    if name is None:
        return None
    from zoo.datasets import open_dataset

    try:
        return open_dataset(name, part)
    except MissingDependencyError:
        return None


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` numbers out of range(count), evenly spaced."""
    chosen = np.linspace(0, count - 1, min(count, wanted))
    return sorted({int(number) for number in chosen})
