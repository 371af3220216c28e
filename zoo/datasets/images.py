"""`ImageDataset`: images that are decoded one at a time, with targets that are known beforehand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ..errors import (
    ConfigError,
    DatasetError,
    ImageError,
    NotFoundError,
    ResourceError,
    WeightsFileError,
)
from ..preprocessing import read_image

Array = np.ndarray[Any, Any]
# What reading one file can raise because of that file (the last one: it is a pipe or a device).
UNREADABLE = (ImageError, NotFoundError, ResourceError, WeightsFileError)
ON_UNREADABLE = ("fail", "skip")


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
    are handled by `zoo.preprocessing.read_image`.

    Args:
        root: the folder.
        paths: of the images, relative to it, with "/".
    """

    root: str
    paths: tuple[str, ...]

    def read(self, position: int) -> Array:
        return np.asarray(read_image(os.path.join(self.root, self.paths[position])))

    def describe(self, position: int) -> str:
        return self.paths[position]


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
        """These images, in this order. Raises: DatasetError for none, IndexError."""
        chosen = np.asarray(indices, dtype=np.int64)
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


def check_on_unreadable(value: str) -> None:
    """Raises: ConfigError unless it is "fail" or "skip"."""
    if value not in ON_UNREADABLE:
        raise ConfigError(f"on_unreadable must be 'fail' or 'skip'; got {value!r}")


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
