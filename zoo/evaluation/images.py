"""The images of a data set that is evaluated: batch after batch, and the digest of all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..data.dataset import ImageDataset
    from .batch.labelled import LabelledImages


Array = np.ndarray[Any, Any]


def read_batches(
    dataset: ImageDataset | LabelledImages,
    batch_size: int,
    on_unreadable: str,
    skipped: list[str],
) -> Iterator[tuple[int, list[Array], Array]]:
    """(images tried, images read, their class numbers), in order; names of the others go to
    `skipped`.
    """
    from ..data.dataset import ImageDataset
    from ..data.image_listing import check_on_unreadable, ending
    from ..data.image_reading import UNREADABLE

    if not isinstance(dataset, ImageDataset):
        yield from dataset.batches(batch_size, on_unreadable, skipped)
        return

    check_on_unreadable(on_unreadable)
    for start in range(0, len(dataset), batch_size):
        indices = range(start, min(start + batch_size, len(dataset)))
        images, targets = [], []
        for index in indices:
            try:
                image, target = dataset[index]
            except UNREADABLE as error:
                if on_unreadable == "stop":
                    raise ending(error) from None
                skipped.append(dataset.describe(index))
                continue
            images.append(image)
            targets.append(target)
        yield len(indices), images, np.asarray(targets, dtype=np.int64)


def update_digest(digest: hashlib._Hash, images: Sequence[Array], targets: Array) -> None:
    """Size, class number and pixels of every image, in order."""
    for image, target in zip(images, targets, strict=True):
        digest.update(np.asarray([*image.shape[:2], target], dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(image).tobytes())
