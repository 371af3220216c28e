"""Image folders: ``class/*.jpg``, with or without folders for the parts around them."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

import numpy as np

from ..errors import DatasetError, NotFoundError
from ..files import read_regular_file
from ..preprocessing import IMAGE_SUFFIXES
from .images import UNREADABLE, FileSource, ImageDataset
from .splitting import split_by_digest

# Folder names that are taken for a part of the data.
PART_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
_SHARES = (("test", 0.2), ("validation", 0.2))


def open_folder(root: str | Path, part: str) -> ImageDataset:
    """One part of an image folder.

    Layouts: ``root/class/*.jpg`` is split by content (`zoo.datasets.splitting`: a fifth of every
    class is the test part, a fifth validation). With part folders, ``root/train/class/*.jpg`` and
    so on, these are the parts; without a validation folder, a fifth of every class of the training
    folder is validation. Images may lie deeper inside a class folder; hidden files are ignored.
    Classes are the folder names of all parts, sorted.

    Raises: NotFoundError for a missing folder or part, DatasetError for fewer than two classes, an
        empty class, or too few images to split.
    """
    root = existing_folder(root)
    folders = part_folders(root)
    name = f"{root.resolve().name}/{part}"
    if not folders:
        _require_no_mixture(root)
        return _choose(_listing(name, root, ("",)), part, _SHARES)
    carved = "train" in folders and "validation" not in folders
    if part in folders and not (part == "train" and carved):
        return _listing(name, root, tuple(folders.values()), folders[part])
    if part == "test" or not carved:
        raise missing_part(root, part, tuple(folders))
    whole = _listing(name, root, tuple(folders.values()), folders["train"])
    return _choose(whole, part, (("validation", 0.2),))


def existing_folder(root: str | Path) -> Path:
    """Raises: NotFoundError unless it is a folder."""
    root = Path(root)
    if not root.is_dir():
        raise NotFoundError(
            f"no such folder: {os.fspath(root)!r}; pass the folder that holds the data (other "
            "forms: digits, cifar10:DIR, cifar100:DIR, imagenet:DIR)",
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
    """Part -> folder name, where the folder holds class folders (a class may be called "test")."""
    found = {}
    for part, names in PART_FOLDERS.items():
        present = [name for name in names if subfolders(root / name)]
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
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def images_below(folder: Path) -> list[str]:
    """Paths of the visible image files below a folder, relative to it, with "/", sorted."""
    found = []
    for where, inside, files in os.walk(folder):
        inside[:] = [name for name in inside if not name.startswith(".")]
        for file in files:
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES:
                found.append(Path(where, file).relative_to(folder).as_posix())
    return sorted(found)


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
        files = images_below(root / folder / inside)
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
    found = class_listing(name, root, chosen, numbers, (*classes,))
    present = set(found.targets.tolist())
    for inside in (inside for inside, number in numbers.items() if number not in present):
        if not any(images_below(root / f / inside) for f in folders if f != chosen):
            raise DatasetError(
                f"the class folder {inside!r} of {os.fspath(root)!r} holds no images; add some, or "
                "remove it",
                code="empty_class",
            )
    return found


def _require_no_mixture(root: Path) -> None:
    loose = [part for part in subfolders(root) if part in PART_FOLDERS]
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
