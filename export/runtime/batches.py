"""What a batch must be before a graph sees it: dtype, shape and finite values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.errors import InputError

from ..formats.axes import LEAST

Array = np.ndarray[Any, Any]

_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(uint8)": np.dtype(np.uint8),
}
# how an export with dynamic size names an axis
_STRIDES = re.compile(r"(\d+)\*(height|width)")
_LEAST = re.compile(r"(height|width)_from_(\d+)")


def prepare_batch(batch: Any, shape: Sequence[int | str | None], kind: str) -> Array:
    """A batch as the graph takes it: contiguous, of its type.

    Args:
        batch: any array; other floating types are converted, integers are not (an image of 0..255
            is not yet an input).
        shape: of the graph's input; names and None stand for any size, "16*height" for multiples.
        kind: "tensor(float)" and the like.
    Raises: InputError for another type or shape, an empty batch, NaN or infinity.
    """
    dtype = _DTYPES.get(kind)
    if dtype is None:
        raise InputError(f"the graph takes {kind}; only images as float or uint8 are supported")
    wanted = f"{dtype} images ({', '.join(str(side) for side in shape)})"
    if not isinstance(batch, np.ndarray):
        raise InputError(f"expected {wanted} as a numpy array; got {type(batch).__name__}")
    if batch.dtype != dtype and not (dtype.kind == "f" and batch.dtype.kind == "f"):
        raise InputError(
            f"expected {wanted}; got {batch.dtype}: prepare images with "
            "zoo.data.preprocessing.preprocess first"
            if dtype.kind == "f"
            else f"expected {wanted}; got {batch.dtype}: this graph takes pixels of 0..255"
        )
    fits = len(batch.shape) == len(shape) and all(
        have == side or not isinstance(side, int)
        for have, side in zip(batch.shape, shape, strict=True)
    )
    if not fits or 0 in batch.shape:
        raise InputError(f"expected {wanted}; got {batch.dtype} {batch.shape}")
    _check_strides(batch, shape)
    with np.errstate(over="ignore"):
        ready: Array = np.ascontiguousarray(batch, dtype)
    if dtype.kind == "f" and not np.isfinite(ready).all():
        bad = int(len(ready) - np.isfinite(ready).reshape(len(ready), -1).all(1).sum())
        raise InputError(
            f"{bad} of {len(ready)} images hold NaN or infinity; an answer would mean nothing",
            code="not_finite",
        )
    return ready


def _check_strides(batch: Array, shape: Sequence[int | str | None]) -> None:
    """Between two strides the model pads an image and the graph does not: its answer would be
    another one, without a word.
    """
    for have, side in zip(batch.shape, shape, strict=True):
        found = _STRIDES.fullmatch(side) if isinstance(side, str) else None
        multiple = int(found[1]) if found else 1
        least = _LEAST.fullmatch(side) if isinstance(side, str) else None
        if least and have < int(least[2]):
            raise InputError(
                f"{least[1]}s start at {least[2]} pixels; got {have} in {batch.shape}: resize the "
                "images",
                code="size_multiple",
            )
        if found and (have % multiple or have < LEAST * multiple):
            raise InputError(
                f"{found[2]}s are multiples of {multiple} pixels from {LEAST * multiple} on; got "
                f"{have} in {batch.shape}: resize or pad the images",
                code="size_multiple",
            )
