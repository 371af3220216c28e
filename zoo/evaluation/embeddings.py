"""Features of many images in one file: batch after batch, never all of them in memory."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from ..errors import ConfigError, ImageError
from ..factory.description import PretrainedCfg
from ..files.local import atomic_path, sha256_file
from .checks import check_count, check_list, check_model
from .eval_mode import in_eval_mode

if TYPE_CHECKING:
    from torch import nn

    from .predictor import Predictor


@dataclass(frozen=True)
class EmbeddingFile:
    """A file that `write_embeddings` wrote.

    Args:
        path, size_bytes, sha256: of the file.
        model: name of the model.
        images, features: rows and columns of the array `features` in it.
    """

    path: str
    size_bytes: int
    sha256: str
    model: str
    images: int
    features: int


def write_embeddings(
    model: nn.Module | Predictor,
    folder: str | os.PathLike[str],
    names: Sequence[str],
    out: str | os.PathLike[str],
    batch_size: int = 32,
    on_images: Callable[[int], None] = lambda count: None,
) -> EmbeddingFile:
    """Write the features of images to an .npz file: all of it, or nothing.

    The file holds `features` (len(names), C) float32, `files` (the names) and `model`.

    Args:
        model: made with ``num_classes=0``, or what returns features; run in eval mode, and left in
            its own.
        folder, names: images, as `zoo.data.image_listing.list_folder` lists them.
        on_images: called with the number of images done after every batch.
    Raises: ConfigError for a model with a classifier, ImageError, NotFoundError, ResourceError.
    """
    predictor, names = _predictor(model), check_list("names", names)
    check_count("batch_size", batch_size)
    paths = [os.path.join(folder, name) for name in names]
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with archive.open(zipfile.ZipInfo("features.npy"), "w", force_zip64=True) as member:
            width = _write_rows(member, predictor, paths, batch_size, on_images)
        for key, value in (("files", names), ("model", predictor.name)):
            with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w") as member:
                np.lib.format.write_array(member, np.array(value, dtype=np.str_))
    return EmbeddingFile(
        path=os.fspath(out),
        size_bytes=os.path.getsize(out),
        sha256=sha256_file(out),
        model=predictor.name,
        images=len(names),
        features=width,
    )


def _predictor(model: nn.Module | Predictor) -> Predictor:
    from .predictor import Predictor

    if isinstance(model, Predictor):
        return model
    check_model(model)
    cfg = PretrainedCfg.of(model)
    if cfg is not None and cfg.num_classes:
        raise ConfigError(
            f"{cfg.name} returns logits of {cfg.num_classes} classes; make it with num_classes=0"
        )
    with in_eval_mode(model):
        return Predictor.from_model(model)


def _write_rows(
    member: IO[bytes],
    predictor: Predictor,
    paths: Sequence[str],
    batch_size: int,
    on_images: Callable[[int], None],
) -> int:
    """The array of all features in numpy's format, batch after batch. Returns: their width."""
    if not paths:
        raise ImageError("no images to embed; name at least one", code="no_images")
    width = 0
    for start in range(0, len(paths), batch_size):
        rows = predictor.logits(paths[start : start + batch_size], batch_size)
        if start == 0:
            width = rows.shape[1]
            shape = (len(paths), width)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
        member.write(np.ascontiguousarray(rows, dtype="<f4").tobytes())
        on_images(len(rows))
    return width
