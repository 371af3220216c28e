"""ImageNet-1k (ILSVRC 2012) from a local directory of synset folders: ``n01440764/*.JPEG``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..catalog.tables import read_labels, read_synsets
from ..errors import DatasetError
from .dataset import ImageDataset
from .folders import class_listing, existing_folder, missing_part, part_folders, subfolders


def open_imagenet(root: str | Path, part: str) -> ImageDataset:
    """One part of ImageNet: "train" or "validation" (its test labels were never published).

    Args:
        root: directory with train/ and val/ (or validation/), or the 1,000 synset folders of the
            validation images themselves.
    Raises: NotFoundError for a missing folder or part, DatasetError if synset folders or their
        images are missing.
    """
    root = existing_folder(root)
    folders = {p: f for p, f in part_folders(root).items() if p != "test"}
    folders = folders or {"validation": ""}
    if part not in folders:
        raise missing_part(root, part, tuple(folders))
    return open_synsets(f"imagenet/{part}", root, folders[part])


def open_synsets(name: str, root: Path, folder: str) -> ImageDataset:
    """The images of ``root/folder/synset``; all 1,000 synsets must be there.

    Raises: DatasetError naming the synsets that have no folder or no images.
    """
    synsets = read_synsets()
    present = set(subfolders(root / folder))
    where = os.fspath(root / folder)
    _require_all(where, [s for s in synsets if s not in present], "no folder for")
    classes = {synset: number for number, synset in enumerate(synsets)}
    found = class_listing(name, root, folder, classes, read_labels("imagenet1k"))
    counts = np.bincount(found.targets, minlength=len(synsets))
    _require_all(where, [synsets[i] for i in np.flatnonzero(counts == 0)], "no images of")
    return found


def _require_all(where: str, missing: list[str], what: str) -> None:
    if missing:
        some = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise DatasetError(
            f"{where!r} has {what} {len(missing)} of 1000 synsets: {some}; sort the images into "
            "folders named by synset (n01440764, ...), or open a smaller set as a plain folder",
            code="incomplete",
        )
