"""Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv:1708.07747) from local files or from the Hub.

Looked for, in this order: the four IDX files, packed or not, in the folder given, in its
``FashionMNIST/raw`` (torchvision's layout) and where Debian's package dataset-fashion-mnist puts
them; without a folder, then the parquet files of the Hub. Whatever they come from, pixels and
labels must have the digests of the record. Validation is a sixth of every training class, chosen
by the SHA-256 of the pixels.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..catalog._data_sets import DATA_SETS
from ..errors import DatasetError, IntegrityError, MissingDependencyError, NotFoundError
from .dataset import ImageDataset, in_memory
from .folders import existing_folder, split_by_digest
from .idx import read_idx

Array = np.ndarray[Any, Any]
RECORD = DATA_SETS["fashion_mnist"]
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SIDE = 28
_PREFIX = {"train": "train", "test": "t10k"}
_PARQUET = "fashion_mnist/{part}-00000-of-00001.parquet"
_VALIDATION = (("validation", 1 / 6),)


def open_fashion_mnist(place: str, part: str) -> ImageDataset:
    """One part: "train" (50,000 images), "validation" (10,000) or "test" (10,000).

    Args:
        place: folder; "" searches Debian's, then asks the Hub.
    Raises: NotFoundError, DatasetError for incomplete or damaged files, IntegrityError for other
        content than the record's; NetworkError, MissingDependencyError (parquet needs pyarrow).
    """
    official = "test" if part == "test" else "train"
    images, targets = _read(place, official)
    _verify(images, targets, official)
    colour = np.broadcast_to(images[..., None], (*images.shape, 3))
    whole = in_memory(f"{RECORD.name}/{part}", RECORD.labels, colour, targets)
    if part == "test":
        return whole
    digests = [hashlib.sha256(image).digest() for image in images]
    return whole.subset(split_by_digest(whole.targets, digests, RECORD.labels, _VALIDATION)[part])


def _read(place: str, official: str) -> tuple[Array, Array]:
    """Images uint8 (n, 28, 28) and class numbers uint8 (n,) of "train" or "test"."""
    if place:
        root = existing_folder(place)
        folders = [root, root / "FashionMNIST" / "raw", root / "raw"]
    else:
        folders = [DEBIAN]
    for folder in folders:
        found = [_file(folder, official, kind) for kind in ("images-idx3", "labels-idx1")]
        if found[0] and found[1]:
            return read_idx(found[0], 3), read_idx(found[1], 1)
        if found[0] or found[1]:
            raise DatasetError(
                f"{os.fspath(folder)!r} has only one of {_PREFIX[official]}-images-idx3-ubyte and "
                f"{_PREFIX[official]}-labels-idx1-ubyte; fetch the other one",
                code="incomplete",
            )
    if place:
        raise NotFoundError(
            f"no Fashion-MNIST in {place!r}; expected {_PREFIX[official]}-images-idx3-ubyte[.gz] "
            "and its labels there or in FashionMNIST/raw",
            code="missing_dataset",
        )
    return read_parquet(_download(official), official)


def _file(folder: Path, official: str, kind: str) -> Path | None:
    names = (f"{_PREFIX[official]}-{kind}-ubyte{ending}" for ending in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _download(official: str) -> bytes:
    """The Hub's parquet file of a part."""
    from ..files.download import fetch_data_file

    return fetch_data_file(RECORD.hub_id, _PARQUET.format(part=official))


def read_parquet(data: bytes, name: str) -> tuple[Array, Array]:
    """Images and class numbers of a parquet file with the columns image.bytes (PNG) and label.

    Raises: DatasetError for another content, MissingDependencyError without pyarrow.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingDependencyError(
            "the Hub's Fashion-MNIST is a parquet file: pip install 'convattn-zoo[batch]', or "
            "install Debian's dataset-fashion-mnist"
        ) from None
    from PIL import Image

    try:
        table = parquet.read_table(io.BytesIO(data), columns=["image", "label"])
        pictures = [row["bytes"] for row in table["image"].to_pylist()]
        targets = np.asarray(table["label"].to_pylist(), dtype=np.uint8)
        images = np.stack([np.asarray(Image.open(io.BytesIO(p)).convert("L")) for p in pictures])
    except (pa.ArrowException, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise DatasetError(
            f"the parquet file of {name} does not hold PNG images and labels ({str(error)[:80]})",
            code="damaged",
        ) from None
    return images, targets


def _verify(images: Array, targets: Array, official: str) -> None:
    for what, values in (("images", images), ("labels", targets)):
        found = hashlib.sha256(values.tobytes()).hexdigest()
        expected = RECORD.digests[f"{official}/{what}"]
        if found != expected:
            raise IntegrityError(
                f"the {what} of the {official} part are not Fashion-MNIST's: SHA-256 "
                f"{found[:12]}, expected {expected[:12]}; fetch the files again, or open another "
                "data set as a folder",
                code="hash",
            )
