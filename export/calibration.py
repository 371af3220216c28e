"""Images for int8: to calibrate its ranges on, and, with labels, to measure what it loses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import PretrainedCfg
from zoo.errors import MissingDependencyError
from zoo.preprocessing import list_images, preprocess

from .samples import sample_images

if TYPE_CHECKING:
    from zoo.datasets import ImageDataset

IMAGES = 128  # images that static int8 is calibrated on, at most
_DATASETS = {"digits": "digits"}  # tag of the weights -> data that ship with the package
Array = np.ndarray[Any, Any]


def calibration_batches(cfg: PretrainedCfg, folder: Path | None) -> tuple[list[Array], str]:
    """Real images, prepared for the model, one per batch, and where they come from.

    Args: folder: images of the user's, or None: training images of the data that the weights were
        trained on where they ship with a package, else the sample images of ours.
    Raises: ImageError, NotFoundError.
    """
    if folder is not None:
        paths = list_images([str(folder)])
        chosen = [paths[i] for i in spread(len(paths), IMAGES)]
        return [preprocess(path, cfg.input)[None] for path in chosen], f"{len(chosen)} of your own"
    data = dataset_of(cfg, "train")
    if data is not None:
        rows = spread(len(data), IMAGES)
        return [
            preprocess(data[i][0], cfg.input)[None] for i in rows
        ], f"{len(rows)} of {data.name}"
    samples = sample_images()
    return [preprocess(p, cfg.input)[None] for p in samples], f"{len(samples)} sample images"


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
