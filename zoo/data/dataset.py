"""`ImageDataset`: images that are decoded one at a time, with targets that are known beforehand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ..errors import DatasetError, InputError
from ..files.json_text import printable
from .image_reading import UNREADABLE
from .preprocessing import read_image

Array = np.ndarray[Any, Any]


class ImageSource(Protocol):
    """Where pixels come from; picklable."""

    def read(self, position: int) -> Array:
        """uint8 (H, W, 3), upright RGB. Raises one of `UNREADABLE`."""
        ...

    def describe(self, position: int) -> str:
        """What to call the image in a message: a path, or a number."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images in memory.

    Args:
        images: uint8 (n, H, W, 3).
        name: of the array, for messages.
    """

    images: Array
    name: str

    def read(self, position: int) -> Array:
        image: Array = self.images[position]
        return image

    def describe(self, position: int) -> str:
        return f"{self.name}[{position}]"


@dataclass(frozen=True, eq=False)
class FileSource:
    """Image files under one folder. Orientation, grey, transparency (over white), CMYK and 16 bits
    are handled by `zoo.data.preprocessing.read_image`.

    Args:
        root: the folder.
        paths: of the images, relative to it, with "/".
    """

    root: str
    paths: tuple[str, ...]

    def read(self, position: int) -> Array:
        return np.asarray(read_image(os.path.join(self.root, self.paths[position])))

    def describe(self, position: int) -> str:
        return printable(self.paths[position])


@dataclass(frozen=True, eq=False)
class ImageDataset(Sequence[tuple[Array, int]]):
    """A sequence of (uint8 (H, W, 3) upright RGB, class number); picklable, so that the workers of
    a DataLoader can hold it.

    Args:
        name: e.g. "digits/test".
        labels: class names; their order is the order of the class numbers.
        targets: class numbers, int64 (n,).
        source: where the pixels come from.
        positions: image i is number ``positions[i]`` of the source, int64 (n,).
        skipped: images that were left out because they cannot be read.
    Raises: DatasetError for no images, or a class number without a name; reading an image raises
        ImageError, NotFoundError or ResourceError.
    """

    name: str
    labels: tuple[str, ...]
    targets: Array
    source: ImageSource
    positions: Array
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.targets) != len(self.positions) or len(self.targets) == 0:
            raise DatasetError(f"{self.name} holds no images; check the folder", code="no_images")
        low, high = int(self.targets.min()), int(self.targets.max())
        if low < 0 or high >= len(self.labels):
            raise DatasetError(
                f"{self.name} has class numbers {low} to {high}, but {len(self.labels)} class "
                f"names (0 to {len(self.labels) - 1}); the files belong to another data set, or "
                "are damaged",
                code="labels_out_of_range",
            )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.subset(range(len(self))[index])
        place = range(len(self))[index]
        return self.source.read(int(self.positions[place])), int(self.targets[place])

    def describe(self, index: int) -> str:
        """What to call image `index` in a message."""
        return self.source.describe(int(self.positions[index]))

    def subset(self, indices: Sequence[int] | Array) -> ImageDataset:
        """These images, in this order; of a mask, one bool for each image, those where it is true.

        Raises: DatasetError for none; InputError for what is neither numbers of images nor a mask.
        """
        chosen = _numbers(indices, len(self), self.name)
        return replace(self, targets=self.targets[chosen], positions=self.positions[chosen])

    def without_unreadable(self) -> ImageDataset:
        """The images that can be decoded; the others are listed in `skipped`. Decodes all of them
        once.
        """

        def readable(index: int) -> bool:
            try:
                self[index]
            except UNREADABLE:
                return False
            return True

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            good = np.fromiter(pool.map(readable, range(len(self))), dtype=bool, count=len(self))
        bad = tuple(self.describe(int(index)) for index in np.flatnonzero(~good))
        return replace(self.subset(np.flatnonzero(good)), skipped=(*self.skipped, *bad))


def _numbers(indices: Sequence[int] | Array, count: int, name: str) -> Array:
    """Indices or a mask, as numpy takes them -> int64, negative ones counted from the end."""
    chosen = np.asarray(indices)
    if chosen.shape == (0,):  # of no dtype of its own
        return chosen.astype(np.int64)
    if chosen.dtype == bool and chosen.shape == (count,):
        return np.flatnonzero(chosen)
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1:
        raise InputError(
            f"{name}: expected whole numbers of images, or a mask of {count} bools; got "
            f"{chosen.dtype} {chosen.shape}"
        )
    wrong = chosen[(chosen < -count) | (chosen >= count)]
    if len(wrong):
        raise InputError(f"{name} has images 0 to {count - 1}; got {wrong[0]}")
    return chosen.astype(np.int64)


def in_memory(name: str, labels: tuple[str, ...], images: Array, targets: Array) -> ImageDataset:
    """A data set from uint8 images (n, H, W, 3) and class numbers (n,).

    Raises: DatasetError if shapes, dtype or numbers do not fit each other.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise DatasetError(
            f"{name}: expected uint8 images (n, H, W, 3); got {images.dtype} {images.shape}",
            code="images",
        )
    if targets.ndim != 1 or targets.dtype.kind not in "iu" or len(targets) != len(images):
        raise DatasetError(
            f"{name}: expected one whole class number for each of {len(images)} images; got "
            f"{targets.dtype} {targets.shape}",
            code="labels",
        )
    positions = np.arange(len(images), dtype=np.int64)
    return ImageDataset(
        name, labels, targets.astype(np.int64), ArraySource(images, name), positions
    )


def align_labels(
    model: tuple[str, ...], data: tuple[str, ...], name: str
) -> tuple[tuple[str, ...], Array]:
    """Class names in the order of the logits, and the map from the data's class numbers to theirs.

    Args:
        model: class names of the logits; empty if the model has none: then the data's order holds.
        data: class names of the data.
        name: of the data, for messages.
    Raises: DatasetError if there are more or fewer classes, or other names.
    """
    if not model or model == data:
        return data, np.arange(len(data))
    if len(model) != len(data):
        raise DatasetError(
            f"the model has {len(model)} classes ({_some(model)}), {name} has {len(data)} "
            f"({_some(data)}); evaluate it on the data it was trained for, or train a new head",
            code="class_count",
        )
    unknown = [label for label in data if label not in set(model)]
    if unknown or len(set(data)) < len(data):
        raise DatasetError(
            f"the classes of {name} are not the model's: it does not know "
            f"{_some(tuple(unknown) or data)}; its own are {_some(model)}. Rename the folders if "
            "they mean the same",
            code="class_names",
        )
    places = {label: place for place, label in enumerate(model)}
    return model, np.asarray([places[label] for label in data])


def in_classes_of(
    images: ImageDataset, labels: Sequence[str], width: int | None = None
) -> ImageDataset:
    """The images with a model's class numbers: what a loss or an accuracy of it is measured on.

    Args:
        labels: class names of its logits, as in `align_labels`.
        width: of its logits, where it is known.
    Raises: DatasetError if the classes are not the model's.
    """
    names, mapping = align_labels(tuple(labels), images.labels, images.name)
    if width is not None:
        check_width(width, len(names), images.name)
    return replace(images, labels=names, targets=mapping[images.targets])


def check_width(width: int, classes: int, name: str) -> None:
    """Raise DatasetError if a model with so many logits cannot know the classes of the data."""
    if width != classes:
        raise DatasetError(
            f"the model returns {width} logits, {name} has {classes} classes; evaluate it on the "
            "data it was trained for, or train a new head",
            code="class_count",
        )


def _some(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:4]) + (", ..." if len(labels) > 4 else "")
