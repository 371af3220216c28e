"""CIFAR-10-C, CIFAR-100-C and ImageNet-C (Hendrycks and Dietterich 2019, arXiv:1903.12261): 15
corruptions at 5 severities.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..catalog.tables import read_labels
from ..errors import ConfigError, DatasetError, NotFoundError
from ..files.local import read_regular_file
from .dataset import ImageDataset, in_memory
from .folders import existing_folder
from .imagenet import open_synsets

Array = np.ndarray[Any, Any]

CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise",
    "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness",
    "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
SEVERITIES = (1, 2, 3, 4, 5)
KINDS = ("cifar10-c", "cifar100-c", "imagenet-c")
_GROUPS = ("", "noise", "blur", "weather", "digital")  # folders that ImageNet-C's archives may make


def open_corruptions(
    spec: str, corruptions: Sequence[str] = CORRUPTIONS
) -> Iterator[tuple[str, int, ImageDataset]]:
    """(corruption, severity, data set), corruptions outside; one corruption is in memory at a time.

    Args:
        spec: "cifar10-c:DIR" or "cifar100-c:DIR" (corruption.npy and labels.npy; severity s is the
            s-th fifth of the rows), or "imagenet-c:DIR" (corruption/severity/synset/*.JPEG).
        corruptions: names out of `CORRUPTIONS`.
    Raises: NotFoundError, DatasetError naming all missing corruptions before the first is read;
        ConfigError for another spec.
    """
    kind, _, place = spec.partition(":")
    if kind not in KINDS or not place:
        raise ConfigError(f"expected one of {', '.join(f'{k}:DIR' for k in KINDS)}; got {spec!r}")
    unknown = [name for name in corruptions if name not in CORRUPTIONS]
    if unknown or not corruptions:
        raise ConfigError(
            f"unknown corruptions: {', '.join(unknown) or '(none given)'}; the names are "
            f"{', '.join(CORRUPTIONS)}"
        )
    root = existing_folder(place)
    if kind == "imagenet-c":
        return _imagenet(root, _imagenet_folders(root, corruptions))
    _require_files(root, ["labels.npy", *(f"{name}.npy" for name in corruptions)])
    return _cifar(kind, root, corruptions)


def _require_files(root: Path, names: list[str]) -> None:
    missing = [name for name in names if not (root / name).exists()]
    if missing:
        raise DatasetError(
            f"{os.fspath(root)!r} is incomplete: {', '.join(missing[:5])}"
            f"{f' and {len(missing) - 5} more' if len(missing) > 5 else ''} missing; unpack the "
            "archive again, or choose the corruptions that are there",
            code="incomplete",
        )


def _cifar(
    kind: str, root: Path, corruptions: Sequence[str]
) -> Iterator[tuple[str, int, ImageDataset]]:
    labels = read_labels(kind.removesuffix("-c"))
    targets = _load(root / "labels.npy")
    for corruption in corruptions:
        images = _load(root / f"{corruption}.npy")
        if len(images) != len(targets) or len(images) % len(SEVERITIES) or not len(images):
            raise DatasetError(
                f"{corruption}.npy has {len(images)} images and labels.npy {len(targets)} numbers; "
                f"expected equally many, a multiple of {len(SEVERITIES)}",
                code="damaged",
            )
        size = len(images) // len(SEVERITIES)
        for severity in SEVERITIES:
            rows = slice((severity - 1) * size, severity * size)
            name = f"{kind}/{corruption}/{severity}"
            yield corruption, severity, in_memory(name, labels, images[rows], targets[rows])


def _load(path: Path) -> Array:
    data = read_regular_file(path, "array")
    try:
        found: Array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DatasetError(
            f"{path.name} is no intact .npy file of numbers ({str(error)[:80]}); download it again",
            code="damaged",
        ) from None
    if not isinstance(found, np.ndarray) or found.ndim == 0:
        raise DatasetError(f"{path.name} is not one .npy array; download it again", code="damaged")
    return found


def _imagenet_folders(root: Path, corruptions: Sequence[str]) -> dict[str, str]:
    """Corruption -> its folder, relative to root. Raises: DatasetError, NotFoundError."""
    found = {}
    for corruption in corruptions:
        places = [os.path.join(group, corruption) for group in _GROUPS]
        found[corruption] = next((p for p in places if (root / p).is_dir()), corruption)
    if not any((root / place).is_dir() for place in found.values()):
        raise NotFoundError(
            f"no ImageNet-C in {os.fspath(root)!r}; expected corruption/severity/synset/*.JPEG",
            code="missing_dataset",
        )
    _require_files(root, [f"{place}/{s}" for place in found.values() for s in SEVERITIES])
    return found


def _imagenet(root: Path, folders: dict[str, str]) -> Iterator[tuple[str, int, ImageDataset]]:
    for corruption, place in folders.items():
        for severity in SEVERITIES:
            name = f"imagenet-c/{corruption}/{severity}"
            yield corruption, severity, open_synsets(name, root, f"{place}/{severity}")
