"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from the python or the binary archive, in a local
directory.

Looked for, in this order: the files themselves, the folder that the archive unpacks to, and the
packed archive. There is no validation part in the archives: a tenth of every training class is kept
aside for it, chosen by the SHA-256 of the pixels (`zoo.data.folders.split_by_digest`).
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError, NotFoundError
from ..files.local import read_regular_file
from .cifar_pickles import read_table
from .dataset import ImageDataset, in_memory
from .folders import existing_folder, split_by_digest

Array = np.ndarray[Any, Any]
SIDE = 32
MAX_MEMBER_BYTES = 1 << 28
_PIXELS = 3 * SIDE * SIDE
_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))


@dataclass(frozen=True)
class _Layout:
    """One form of one archive.

    Args:
        folder, archive: what the archive unpacks to, and its own name.
        train, test: files of the parts.
        names: file of the class names, and its key in the python form.
        label: key of the class numbers (python form), or bytes before the pixels (binary form).
    """

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: tuple[str, str]
    label: str | int


_LAYOUTS = {
    "cifar10": (
        _Layout("cifar-10-batches-py", "cifar-10-python.tar.gz", _BATCHES, ("test_batch",),
                ("batches.meta", "label_names"), "labels"),
        _Layout("cifar-10-batches-bin", "cifar-10-binary.tar.gz",
                tuple(f"{name}.bin" for name in _BATCHES), ("test_batch.bin",),
                ("batches.meta.txt", ""), 1),
    ),
    "cifar100": (
        _Layout("cifar-100-python", "cifar-100-python.tar.gz", ("train",), ("test",),
                ("meta", "fine_label_names"), "fine_labels"),
        _Layout("cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), ("test.bin",),
                ("fine_label_names.txt", ""), 2),
    ),
}  # fmt: skip


def open_cifar(kind: str, root: str | Path, part: str) -> ImageDataset:
    """One part of CIFAR: "train" (nine tenths of 50,000), "validation" (a tenth), "test" (10,000).

    Args:
        kind: "cifar10" or "cifar100" (with its 100 fine classes).
        root: directory with an archive, packed or unpacked, or the unpacked folder itself.
    Raises: NotFoundError if there is no archive, DatasetError if one is incomplete or damaged.
    """
    root = existing_folder(root)
    layout, read = _find(kind, root)
    labels = _read_names(layout, read)
    parts = [_read_batch(layout, read, file) for file in getattr(layout, _folder_of(part))]
    images = np.concatenate([images for images, _ in parts])
    targets = np.concatenate([targets for _, targets in parts])
    whole = in_memory(f"{kind}/{part}", labels, images, targets)
    if part == "test":
        return whole
    digests = [hashlib.sha256(image.tobytes()).digest() for image in images]
    return whole.subset(split_by_digest(targets, digests, labels, (("validation", 0.1),))[part])


def _folder_of(part: str) -> str:
    return "test" if part == "test" else "train"


def _find(kind: str, root: Path) -> tuple[_Layout, Callable[[str], bytes]]:
    """The form that is there, and a function from file names to bytes."""
    for layout in _LAYOUTS[kind]:
        for folder in (root, root / layout.folder):
            if (folder / layout.train[0]).is_file() or (folder / layout.test[0]).is_file():
                return layout, lambda name, folder=folder: _from_folder(folder, name)
    for layout in _LAYOUTS[kind]:
        if (root / layout.archive).is_file():
            members = _unpack(root / layout.archive, layout)
            return layout, lambda name, found=members, archive=layout.archive: _from_archive(
                found, name, archive
            )
    known = ", ".join(f"{form.folder} or {form.archive}" for form in _LAYOUTS[kind])
    raise NotFoundError(
        f"no {kind} in {os.fspath(root)!r}; expected {known} from "
        "www.cs.toronto.edu/~kriz/cifar.html",
        code="missing_dataset",
    )


def _from_folder(folder: Path, name: str) -> bytes:
    if not (folder / name).exists():
        raise _incomplete(os.fspath(folder), name)
    return read_regular_file(folder / name, "CIFAR file")


def _from_archive(members: dict[str, bytes], name: str, archive: str) -> bytes:
    if name not in members:
        raise _incomplete(archive, name)
    return members[name]


def _incomplete(where: str, name: str) -> DatasetError:
    return DatasetError(
        f"{where!r} is incomplete: {name} is missing; unpack the archive again", code="incomplete"
    )


def _unpack(path: Path, layout: _Layout) -> dict[str, bytes]:
    """The members that we need, in memory; nothing is written and nothing else is read."""
    wanted = {f"{layout.folder}/{n}": n for n in (*layout.train, *layout.test, layout.names[0])}
    found: dict[str, bytes] = {}
    try:
        data = io.BytesIO(read_regular_file(path, "archive"))
        with tarfile.open(fileobj=data, mode="r:gz") as archive:
            for member in archive:
                name = wanted.get(member.name.removeprefix("./"))
                if name and member.isfile() and member.size <= MAX_MEMBER_BYTES:
                    content = archive.extractfile(member)
                    assert content is not None  # a regular file
                    found[name] = content.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DatasetError(
            f"{path.name} is damaged or cut short ({str(error)[:80]}); download it again",
            code="damaged",
        ) from None
    return found


def _read_names(layout: _Layout, read: Callable[[str], bytes]) -> tuple[str, ...]:
    file, key = layout.names
    data = read(file)
    names: Any = read_table(data, file).get(key) if key else data.decode("utf-8").split()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DatasetError(f"{file} holds no class names; download it again", code="damaged")
    return tuple(names)


def _read_batch(layout: _Layout, read: Callable[[str], bytes], file: str) -> tuple[Array, Array]:
    """Images uint8 (n, 32, 32, 3) and class numbers int64 (n,) of one file."""
    data = read(file)
    if isinstance(layout.label, int):
        size = layout.label + _PIXELS
        if not data or len(data) % size:
            raise DatasetError(
                f"{file} has {len(data)} bytes, no multiple of {size} per image; it is cut short "
                "or another file",
                code="damaged",
            )
        rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, size)
        pixels, targets = rows[:, layout.label :], rows[:, layout.label - 1]
    else:
        table = read_table(data, file)
        pixels, targets = table.get("data"), table.get(layout.label)  # type: ignore[assignment]
        whole = isinstance(targets, list) and all(type(number) is int for number in targets)
        fits = isinstance(pixels, np.ndarray) and pixels.shape[1:] == (_PIXELS,)
        if not whole or not fits or len(pixels) != len(targets):
            raise DatasetError(
                f"{file} does not hold 32 x 32 images with a number each under 'data' and "
                f"{layout.label!r}; download it again",
                code="damaged",
            )
    images = pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.asarray(targets, dtype=np.int64)
