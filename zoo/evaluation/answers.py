"""What a model answers for a batch of images, looked at before it is believed."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data.preprocessing import ImageLike
from ..errors import ConfigError, InputError

Array = np.ndarray[Any, Any]
_log = logging.getLogger(__name__)


def as_logits(found: Any, images: Sequence[ImageLike], name: str) -> Array:
    """What a model returned, as float (B, classes).

    Args:
        found: array, tensor of torch, or nested lists.
        images: where it comes from; name: of the model. Both for messages.
    Raises: ConfigError (code "not_logits"); InputError (code "not_finite").
    """
    rows = _as_array(found)
    if rows.dtype.kind != "f" or rows.ndim != 2 or len(rows) != len(images):
        known = rows.dtype != object or isinstance(found, np.ndarray)
        what = f"{rows.dtype} {rows.shape}" if known else type(found).__name__
        raise ConfigError(
            f"{name[:80]} returns {what} for {len(images)} images; expected a row of "
            "floating-point numbers for each of them",
            code="not_logits",
        )
    _check_finite(rows, images, name)
    return rows


def _as_array(found: Any) -> Array:
    """An object array for what is none."""
    if hasattr(found, "detach"):  # of torch; numpy knows no bfloat16
        found = found.detach().cpu()
        found = found.float() if found.is_floating_point() and found.itemsize < 4 else found
    try:
        return np.asarray(found)
    except ValueError:  # lists of several lengths
        return np.empty(0, dtype=object)


def _check_finite(logits: Array, images: Sequence[ImageLike], name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(logits).all(1))
    if len(bad):
        image = images[int(bad[0])]
        shown = f"of {os.fspath(image)!r}" if isinstance(image, str | os.PathLike) else "of one"
        raise InputError(
            f"{name[:80]} returns NaN or infinity for {len(bad)} of {len(logits)} images, "
            f"first {shown}: its weights or its file are damaged, or float16 overflows",
            code="not_finite",
        )


def warn_of_probabilities(rows: Array, name: str) -> None:
    """Say it, once, if every row is a distribution, as logits never are but by chance."""
    if rows.shape[1] > 1:
        sums = rows.sum(axis=1, dtype=np.float64)
        if bool((rows >= 0).all() and (np.abs(sums - 1) < 1e-5).all()):
            _say_probabilities(name[:80])


@functools.cache  # said once
def _say_probabilities(name: str) -> None:
    _log.warning(
        f"{name} seems to answer with probabilities, not logits; softmax is taken of them again, "
        "so the probabilities and the calibration are wrong. Leave the softmax out of its forward"
    )


def softmax(logits: Array) -> Array:
    """Softmax over the last axis, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    total: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return total


def image_list(images: Any) -> Sequence[ImageLike]:
    """Images as a sequence: one image is one, and what can be read once only is read.

    Args: images: a path, a PIL image, an array of one; or several of these.
    Raises: InputError for what is neither.
    """
    if isinstance(images, str | bytes | os.PathLike) or _is_picture(images):
        return [images]
    several = hasattr(images, "__getitem__") and hasattr(images, "__len__")
    if several and not isinstance(images, Mapping):
        found: Sequence[ImageLike] = images
        return found
    try:
        return list(images)
    except TypeError:
        raise InputError(
            f"expected images (paths, PIL images, uint8 arrays); got {type(images).__name__}"
        ) from None


def _is_picture(image: Any) -> bool:
    """Whether it is a PIL image, or has the shape of one: (H, W), (H, W, 1 or 3), of torch's
    (1 or 3, H, W).
    """
    shape = getattr(image, "shape", None)
    if shape is None:
        return hasattr(image, "getbands")
    channels = shape[0 if hasattr(image, "detach") else -1] if len(shape) == 3 else 1
    return len(shape) in (2, 3) and channels in (1, 3)
