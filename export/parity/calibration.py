"""Images for int8: to calibrate its ranges on, and, with labels, to measure what it loses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.catalog.tables import find_data_set, list_name, sample_images
from zoo.data.dataset import in_classes_of
from zoo.data.folders import part_folders, subfolders
from zoo.data.image_listing import list_folder, without_unreadable
from zoo.data.opening import available_parts, open_dataset
from zoo.data.preprocessing import preprocess
from zoo.errors import MissingDependencyError, NetworkError
from zoo.factory.description import PretrainedCfg

from .inputs import make_inputs

if TYPE_CHECKING:
    from zoo.data.dataset import ImageDataset


IMAGES = 128  # images that static int8 is calibrated on, at most
_SEEDS = (1001, 1002, 1003, 1004)  # of noise to calibrate on; parity is measured on other noise

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class OwnImages:
    """Images of the user's.

    Args:
        paths_or_pixels: to calibrate on, at most `IMAGES`.
        labelled: to measure accuracy on, with the model's class numbers; None if they have none.
    """

    paths_or_pixels: tuple[Any, ...]
    labelled: ImageDataset | None


def own_images(
    cfg: PretrainedCfg,
    calibration: str | Path | None,
    data: str | Path | None,
    on_unreadable: str = "stop",
) -> OwnImages | None:
    """The images that `export --data` and `--calibration` name, or None for neither.

    Args:
        calibration: a folder of images; with class folders named like the model's classes, they are
            its `data` too, unless that is given.
        data: what `zoo.data.open_dataset` takes, with the model's classes: its training part
            calibrates, its validation part is measured.
    Raises: DatasetError for other classes than the model's, NotFoundError, ImageError.
    """
    if data is None and calibration is not None and _has_classes(Path(calibration), cfg):
        data = calibration
    labelled: ImageDataset | None = None
    own: tuple[Any, ...] = ()
    if data is not None:
        labelled, own = _parts(cfg, os.fspath(data), on_unreadable)
    if calibration is not None and calibration is not data:
        listed = list_folder(calibration).paths
        if on_unreadable == "skip":
            listed, _ = without_unreadable(listed)
        own = tuple(listed[i] for i in spread(len(listed), IMAGES))
    return None if data is None and calibration is None else OwnImages(own, labelled)


def _has_classes(folder: Path, cfg: PretrainedCfg) -> bool:
    parts = part_folders(folder) if folder.is_dir() else {}
    inside = {name for part in (parts.values() or ("",)) for name in subfolders(folder / part)}
    return bool(inside) and inside == set(cfg.labels)


def _parts(
    cfg: PretrainedCfg, data: str, on_unreadable: str
) -> tuple[ImageDataset, tuple[Array, ...]]:
    """Images to measure on, and pixels to calibrate on."""
    available = available_parts(data)
    measured = "validation" if "validation" in available else available[-1]
    calibrating = "train" if "train" in available else measured
    opened = [open_dataset(data, p, on_unreadable=on_unreadable) for p in (measured, calibrating)]
    labelled = in_classes_of(opened[0], cfg.labels, cfg.num_classes)
    return labelled, tuple(opened[1][i][0] for i in spread(len(opened[1]), IMAGES))


def calibration_batches(cfg: PretrainedCfg, own: OwnImages | None) -> tuple[list[Array], str]:
    """Images prepared for the model, one per batch, and what they are: real ones, and noise,
    constants and extreme values, which would leave the ranges that real images span.

    Args: own: images of the user's, or None: training images of the data that the weights were
        trained on where they ship with a package, else sample images of ours: of that data where
        there are any, else digits.
    Raises: ImageError, NotFoundError.
    """
    real, source = _real_images(cfg, own)
    batches = [preprocess(image, cfg.input)[None] for image in real]
    for seed in _SEEDS:
        inputs = make_inputs(cfg.input, seed)
        rows = [row for row, kind in enumerate(inputs.kinds) if kind != "real"]
        batches += [inputs.batch[row : row + 1] for row in rows]
    made = len(batches) - len(real)
    return batches, f"{len(real)} {source}, {made} of noise, constants and extreme values"


def _real_images(cfg: PretrainedCfg, own: OwnImages | None) -> tuple[list[Any], str]:
    """At most `IMAGES` images, evenly spread, and whose they are."""
    if own is not None:
        return list(own.paths_or_pixels), "of your own"
    data = dataset_of(cfg, "train")
    if data is not None:
        return [data[i][0] for i in spread(len(data), IMAGES)], f"of {data.name}"
    own_kind = sample_images(list_name(cfg.labels))
    return list(own_kind or sample_images("digits")), "sample images"


def dataset_of(cfg: PretrainedCfg, part: str) -> ImageDataset | None:
    """The data that the weights were trained on, where they ship with a package."""
    record = find_data_set(cfg.labels)
    if record is None or not record.opens_by_name or record.name != cfg.tag:
        return None
    try:
        return open_dataset(record.name, part)
    except (MissingDependencyError, NetworkError):
        return None


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` numbers out of range(count), evenly spaced."""
    chosen = np.linspace(0, count - 1, min(count, wanted))
    return sorted({int(number) for number in chosen})


def top1_loss(
    run: Any,
    reference: Any,
    cfg: PretrainedCfg,
    own: OwnImages | None = None,
    known: float | None = None,
) -> dict[str, Any]:
    """Points of accuracy that a file loses on labelled images against the float32 model.

    Args:
        run, reference: float32 (B, C, H, W) -> logits, of the file and of the model.
        own: labelled images of the user's go before those of the data that ship with a package.
        known: "float32_top1_percent" of another file of the same model, instead of running it.
    Returns: {"images", "data", "top1_percent", "float32_top1_percent", "top1_loss_points"}, or
        {"top1_loss_points": None, "why": ...} where that cannot be measured.
    """
    data = own.labelled if own and own.labelled is not None else dataset_of(cfg, "validation")
    if data is None or cfg.num_classes != len(data.labels):
        random = cfg.tag in ("", "random")
        why = "the weights are random" if random else "no labelled images of its data are here"
        return {"top1_loss_points": None, "why": f"not measurable: {why}"}
    judged = (run, reference) if known is None else (run,)
    right = np.zeros(len(judged), dtype=np.int64)
    for start in range(0, len(data), 32):
        pairs = [data[i] for i in range(start, min(start + 32, len(data)))]
        images = np.stack([preprocess(image, cfg.input) for image, _ in pairs])
        truth = np.asarray([target for _, target in pairs])
        right += [int((f(images).argmax(1) == truth).sum()) for f in judged]
    top1, *judged_float32 = (100 * right / len(data)).tolist()
    float32_top1 = float(judged_float32[0] if known is None else known)
    return {
        "data": data.name,
        "images": len(data),
        "top1_percent": top1,
        "float32_top1_percent": float32_top1,
        "top1_loss_points": float32_top1 - top1,
    }
