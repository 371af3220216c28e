"""Image folders: ``class/*.jpg``, with or without folders for the parts around them."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError, NotFoundError
from ..files.json_text import printable
from ..files.local import read_regular_file, resource_error
from .dataset import FileSource, ImageDataset
from .image_listing import is_visible, list_folder
from .image_reading import UNREADABLE

# Folder names that are taken for a part of the data.
PART_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
_SHARES = (("test", 0.2), ("validation", 0.2))


def open_folder(root: str | Path, part: str) -> ImageDataset:
    """One part of an image folder.

    Layouts: ``root/class/*.jpg`` is split by content (`split_by_digest`: a fifth of every class
    is the test part, a fifth validation). With part folders, ``root/train/class/*.jpg`` and
    so on, these are the parts; without a validation folder, a fifth of every class of the training
    folder is validation. Images may lie deeper inside a class folder; hidden files are ignored.
    Classes are the folder names of all parts, sorted. The part "all" is every image of the folder.

    Raises: NotFoundError for a missing folder or part, DatasetError for fewer than two classes, an
        empty class, or too few images to split.
    """
    root = existing_folder(root)
    folders = part_folders(root)
    name = printable(f"{root.resolve().name}/{part}")
    if not folders:
        _require_no_mixture(root)
        whole = _listing(name, root, ("",))
        return whole if part == "all" else _choose(whole, part, _SHARES)
    if "train" in folders:
        _require_training_images(root, tuple(folders.values()), folders["train"])
    if part == "all":
        return _join([_listing(name, root, tuple(folders.values()), f) for f in folders.values()])
    carved = "train" in folders and "validation" not in folders
    if part in folders and not (part == "train" and carved):
        return _listing(name, root, tuple(folders.values()), folders[part])
    if part == "test" or not carved:
        raise missing_part(root, part, tuple(folders))
    whole = _listing(name, root, tuple(folders.values()), folders["train"])
    return _choose(whole, part, (("validation", 0.2),))


def _join(parts: Sequence[ImageDataset]) -> ImageDataset:
    """The images of several parts of one folder."""
    paths = [path for part in parts if isinstance(part.source, FileSource)
             for path in part.source.paths]  # fmt: skip
    assert isinstance(parts[0].source, FileSource)
    source = replace(parts[0].source, paths=tuple(paths))
    targets = np.concatenate([part.targets for part in parts])
    positions = np.arange(len(paths), dtype=np.int64)
    return replace(parts[0], source=source, targets=targets, positions=positions)


def folder_digest(root: str | Path) -> str:
    """SHA-256 over the sorted digests of the images of a folder that the tool splits: which images
    they are, whatever they and the folder are called. "" for a folder with parts of its own, which
    would have to be read for it.
    """
    root = existing_folder(root)
    if part_folders(root):
        return ""
    whole = _listing(root.name, root, ("",))
    assert isinstance(whole.source, FileSource)
    digests = sorted(_digest(os.path.join(root, path)) for path in whole.source.paths)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def existing_folder(root: str | Path) -> Path:
    """Raises: NotFoundError unless it is a folder."""
    root = Path(root)
    if not os.path.isdir(root):  # `Path.is_dir` raises for a name that is too long
        raise NotFoundError(
            f"no such folder: {os.fspath(root)!r}; pass the folder that holds the data (other "
            "forms: digits, fashion_mnist, fashion_mnist:DIR, cifar10:DIR, cifar100:DIR, "
            "imagenet:DIR)",
            code="missing_dataset",
        )
    return root


def missing_part(root: Path, part: str, found: tuple[str, ...]) -> NotFoundError:
    """The error for a part that the data does not have."""
    return NotFoundError(
        f"{os.fspath(root)!r} has the parts {', '.join(found)}; it has no {part} part",
        code="missing_part",
    )


def part_folders(root: Path) -> dict[str, str]:
    """Part -> folder name, where the folder holds class folders (a class may be called "test").

    Capitals do not matter: "Training" is a part, too.
    """
    found, inside = {}, subfolders(root)
    for part, names in PART_FOLDERS.items():
        present = [n for n in inside if n.lower() in names and subfolders(root / n)]
        if len(present) > 1:
            raise DatasetError(
                f"{os.fspath(root)!r} has {' and '.join(present)}, which mean the same part; keep "
                "one of them",
                code="ambiguous_parts",
            )
        if present:
            found[part] = present[0]
    return found


def subfolders(folder: Path) -> list[str]:
    """Names of the visible folders inside, sorted; none if there is no such folder."""
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and is_visible(e.name))
    except OSError as error:
        raise resource_error(error, folder) from None


def _images_of(folder: Path) -> tuple[str, ...]:
    """Images of a class folder and below it; none if the part does not have the folder."""
    return list_folder(folder, may_be_empty=True).names if folder.is_dir() else ()


def class_listing(
    name: str, root: Path, folder: str, classes: dict[str, int], labels: tuple[str, ...]
) -> ImageDataset:
    """The images of ``root/folder/class``.

    Args:
        classes: folder name -> class number.
        labels: class names by number.
    """
    paths: list[str] = []
    targets: list[int] = []
    for inside, number in classes.items():
        files = _images_of(root / folder / inside)
        paths += [f"{folder}/{inside}/{file}".lstrip("/") for file in files]
        targets += [number] * len(files)
    source = FileSource(os.fspath(root), tuple(paths))
    positions = np.arange(len(paths), dtype=np.int64)
    return ImageDataset(name, labels, np.asarray(targets, dtype=np.int64), source, positions)


def _listing(
    name: str, root: Path, folders: tuple[str, ...], folder: str | None = None
) -> ImageDataset:
    """The images of one part folder, with the classes of all of them."""
    classes = sorted({inside for f in folders for inside in subfolders(root / f)})
    if len(classes) < 2:
        raise DatasetError(
            f"{os.fspath(root)!r} has {len(classes)} class folders; expected at least two, laid "
            "out as class/image.jpg or train/class/image.jpg (is it the right level?)",
            code="classes",
        )
    numbers = {inside: number for number, inside in enumerate(classes)}
    chosen = folders[0] if folder is None else folder
    found = class_listing(name, root, chosen, numbers, (*map(printable, classes),))
    present = set(found.targets.tolist())
    for inside in (inside for inside, number in numbers.items() if number not in present):
        if not any(_images_of(root / f / inside) for f in folders if f != chosen):
            raise DatasetError(
                f"the class folder {inside!r} of {os.fspath(root)!r} holds no images; add some, or "
                "remove it",
                code="empty_class",
            )
    return found


def _require_training_images(root: Path, folders: tuple[str, ...], train: str) -> None:
    """A class that only the other parts have can never be learnt."""
    for inside in sorted({inside for f in folders for inside in subfolders(root / f)}):
        others = [_images_of(root / f / inside) for f in folders if f != train]
        if any(others) and not _images_of(root / train / inside):
            raise DatasetError(
                f"the class {inside!r} of {os.fspath(root)!r} has no images under {train!r}; add "
                "some, or remove the class",
                code="empty_class",
            )


def _require_no_mixture(root: Path) -> None:
    """Parts that are called by other names would be taken for classes."""
    names = {name for names in PART_FOLDERS.values() for name in names}
    like = {
        n: part for n in subfolders(root) if (part := names & {*re.split(r"[^a-z]+", n.lower())})
    }
    if len(set().union(*like.values())) > 1:
        inner = Counter(
            i for n in like for i in {Path(f).parent.name for f in _images_of(root / n)}
        )
        if any(count > 1 for folder, count in inner.items() if folder):
            raise DatasetError(
                f"{os.fspath(root)!r} has {', '.join(like)}: parts by their names and by what they "
                "share, which would be taken for classes; call them train, validation and test, "
                "with the class folders inside",
                code="classes",
            )
    loose = [name for name in subfolders(root) if name.lower() in names]
    if len(loose) == len(subfolders(root)) > 0:
        raise DatasetError(
            f"{os.fspath(root)!r} has {', '.join(loose)} without class folders inside; expected "
            "train/class/image.jpg",
            code="classes",
        )


def _choose(whole: ImageDataset, part: str, shares: tuple[tuple[str, float], ...]) -> ImageDataset:
    source = whole.source
    assert isinstance(source, FileSource)
    digests = [_digest(os.path.join(source.root, path)) for path in source.paths]
    return whole.subset(split_by_digest(whole.targets, digests, whole.labels, shares)[part])


def _digest(path: str) -> bytes:
    try:
        found = os.stat(path)
    except OSError:
        return hashlib.sha256(path.encode()).digest()
    return _content_digest(path, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=1 << 20)
def _content_digest(path: str, _size: int, _mtime_ns: int) -> bytes:
    """SHA-256 of a file, remembered while it does not change; of its path if it is unreadable."""
    try:
        return hashlib.sha256(read_regular_file(path, "image")).digest()
    except UNREADABLE:
        return hashlib.sha256(path.encode()).digest()


Array = np.ndarray[Any, Any]


def split_by_digest(
    targets: Array,
    digests: Sequence[bytes],
    labels: Sequence[str],
    shares: tuple[tuple[str, float], ...],
) -> dict[str, Array]:
    """Positions of each part, ascending.

    Args:
        targets: class numbers (n,).
        digests: one per image.
        labels: class names, for messages.
        shares: (part, share of each class) in order; what is left is "train".
    Raises: DatasetError if a class has too few different images for a place in every part.
    """
    parts: dict[str, list[int]] = {part: [] for part in (*(part for part, _ in shares), "train")}
    for number in np.unique(targets):
        members = sorted(
            (int(i) for i in np.flatnonzero(targets == number)), key=lambda i: (digests[i], i)
        )
        groups = [list(group) for _, group in groupby(members, key=lambda i: digests[i])]
        for part, share in shares:
            wanted, taken = math.ceil(share * len(members)), 0
            while groups and taken < wanted:
                taken += len(groups[0])
                parts[part] += groups.pop(0)
        if not groups:
            count = f"{len(members)} image{'s'[: len(members) != 1]}"
            raise DatasetError(
                f"class {labels[number]!r} has {count}, too few different ones for "
                f"{', '.join(parts)}; add images, or make the folders train, validation and test "
                "yourself",
                code="too_few_images",
            )
        parts["train"] += [index for group in groups for index in group]
    return {part: np.asarray(sorted(indices), dtype=np.int64) for part, indices in parts.items()}
