"""Labelled images of a source, for `evaluate`: each is read once, in the source's order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...catalog.weights_records import InputSpec
from ...data.image_listing import check_on_unreadable, ending
from ...data.image_reading import UNREADABLE
from ...data.preprocessing import read_image
from ...errors import ConfigError, DatasetError, ZooError
from .archives import Tar
from .items import Item, Source, as_label
from .parquet_rows import Parquet
from .sources import Files, Shards
from .stream import Images, ThreadDecoder, batches_of, decoded, image_of

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LabelledImages:
    """Images with class numbers that are met while they are read.

    Args:
        name: of the data.
        labels: class names; their order is that of the class numbers.
        source: of the images.
        column: of a parquet file, with the labels.
    """

    name: str
    labels: tuple[str, ...]
    source: Source
    column: str = "label"
    skipped: tuple[str, ...] = ()

    def batches(
        self, batch_size: int, on_unreadable: str, skipped: list[str]
    ) -> Iterator[tuple[int, list[Array], Array]]:
        """As `read_batches`; threads decode ahead.

        Raises: DatasetError for a label that is no class, or missing; as `answers`.
        """
        check_on_unreadable(on_unreadable)
        numbers = self._numbers()
        batches = batches_of(labelled(self.source, self.column), 0, batch_size)
        for items, images in decoded(batches, _ANY, ThreadDecoder(0, _read), batch_size):
            kept, targets = [], []
            for item, image in zip(items, images, strict=True):
                if isinstance(image, ZooError):
                    if on_unreadable == "stop":
                        raise ending(image)
                    skipped.append(item.path)
                    continue
                kept.append(image)
                targets.append(self._number(item, numbers))
            yield len(items), kept, np.asarray(targets, dtype=np.int64)

    def _numbers(self) -> dict[str, int]:
        """Class numbers by what a label may say: a name, or where no name is a number, the place of
        one. Folders 0 to 11 are sorted as texts: their "2" is the class of that name.
        """
        names = {name: number for number, name in enumerate(self.labels)}
        if any(name.isdecimal() for name in names):
            return names
        return {**names, **{str(number): number for number in range(len(self.labels))}}

    def _number(self, item: Item, numbers: dict[str, int]) -> int:
        label = str(item.label)
        if label in numbers:
            return numbers[label]
        some = ", ".join(self.labels[:4])
        raise DatasetError(
            f"{item.path[-80:]!r} of {self.name[-60:]} is labelled {label[:40]!r}, which is "
            f"none of the {len(self.labels)} classes ({some} ...)",
            code="class_names",
        )


def open_labelled(
    name: str, source: Source, labels: Sequence[str], column: str = "label"
) -> LabelledImages:
    """The labelled images of a source.

    A list says a label after a tab, or else the folder of an image is its class; a parquet file has
    the column `column`, with numbers, names, or numbers that its metadata names (Hugging Face's
    ClassLabel); an archive has a file ``.cls`` beside each image, as webdataset writes it.

    Args:
        labels: class names of the model, whose order numbers mean, unless names are numbers
            themselves; empty where it has none: then the names are those of the data, which is
            read once more for them.
    Raises: DatasetError for a source without labels.
    """
    names = tuple(labels)
    if not names:
        found = {item.label for item in labelled(source, column)}
        whole = [label for label in found if isinstance(label, int)]
        names = tuple(sorted(label for label in found if isinstance(label, str)))
        if whole and names:
            raise DatasetError(f"{name!r} has both numbers and names as labels", code="labels")
        names = names or tuple(str(number) for number in range(max(whole, default=-1) + 1))
    return LabelledImages(name, names, source, column)


def labelled(source: Source, column: str = "label") -> Iterator[Item]:
    """The images of a source with their labels. Raises: DatasetError where there are none."""
    if isinstance(source, Shards):
        for shard in source.sources:
            yield from labelled(shard, column)
    elif isinstance(source, Tar):
        yield from source.labelled()
    elif isinstance(source, Parquet):
        yield from source.labelled(column)
    elif isinstance(source, Files):
        for number, item in enumerate(source.items()):
            stated = source.labels[number] if source.labels else ""
            folder = os.path.basename(os.path.dirname(item.path))
            if not (stated or folder):
                raise DatasetError(
                    f"{item.path[-100:]!r} has no label: write it after a tab, or name the image "
                    "with the folder that is its class",
                    code="labels",
                )
            yield replace(item, label=as_label(stated) if stated else folder)
    else:
        raise ConfigError(f"{type(source).__name__} has no labels", code="labels")


def _read(items: Sequence[Item], _: InputSpec) -> Images:
    """Pixels, uint8 (H, W, 3) each, or the error of an image."""
    found: Images = []
    for item in items:
        try:
            found.append(np.asarray(read_image(image_of(item))))
        except UNREADABLE as error:
            found.append(error)
    return found


_ANY = InputSpec(size=(1, 1), mean=(0.0,) * 3, std=(1.0,) * 3)  # pixels stay as they are
