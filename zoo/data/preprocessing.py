"""Images to model inputs: read, convert to RGB, resize, crop, normalise. numpy and Pillow; no torch
unless a tensor is asked for.

The steps are those of timm's and torchvision's evaluation transforms on PIL images: the shorter
side to ``floor(size / crop_pct)`` with an antialiased filter, a centre crop, values / 255, (x -
mean) / std.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..catalog.weights_records import InputSpec
from ..errors import ImageError
from .image_reading import FREE_PIXELS, read_file, to_rgb

if TYPE_CHECKING:
    from torch import Tensor


ImageLike = (
    Any  # path, PIL image, uint8 array (H, W), (H, W, 1), (H, W, 3), or uint8 tensor (3, H, W)
)

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def read_image(source: ImageLike) -> Image.Image:
    """Any supported image as an upright RGB PIL image.

    Args:
        source: a path; a PIL image; a uint8 array (H, W), (H, W, 1) or (H, W, 3) in RGB order; a
            uint8 tensor (1 or 3, H, W). Grey is repeated, transparency composed over white, 16-bit
            scaled.
    Raises: ImageError for anything else, an empty file, or a file that is not an image;
        ResourceError if the file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        return read_file(source)
    if isinstance(source, Image.Image):
        return to_rgb(source)
    if type(source).__module__.partition(".")[0] == "torch":
        if source.ndim != 3 or source.shape[0] not in (1, 3):
            raise ImageError(
                f"expected a uint8 tensor (3, H, W) or (1, H, W); got shape {tuple(source.shape)}",
                code="channels",
            )
        source = source.permute(1, 2, 0).cpu().numpy()
    if isinstance(source, np.ndarray):
        return _from_array(source)
    raise ImageError(f"expected a path, a PIL image or a uint8 array; got {type(source).__name__}")


def _from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    if array.dtype != np.uint8:
        raise ImageError(
            f"expected uint8 values 0..255; got {array.dtype}; scale and convert first",
            code="dtype",
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] != 3):
        raise ImageError(
            f"expected a uint8 array (H, W), (H, W, 1) or (H, W, 3); got shape {array.shape}",
            code="channels",
        )
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def preprocess(source: ImageLike, spec: InputSpec) -> np.ndarray[Any, np.dtype[np.float32]]:
    """One image as the input of a model.

    Returns: float32 (C, H, W), normalised, with (H, W) = `spec.size`.
    Raises: ImageError, ResourceError (see `read_image`).
    """
    image = _resize_and_crop(read_image(source), spec)
    if spec.in_chans == 1:
        image = image.convert("L")
    values = np.asarray(image, dtype=np.float32).reshape(*spec.size, -1) / np.float32(255)
    if spec.in_chans not in (1, 3):
        raise ImageError(
            f"images have 1 or 3 channels; this model takes {spec.in_chans}: pass arrays to the "
            f"model",
            code="channels",
        )
    mean, std = (np.asarray(numbers, dtype=np.float32) for numbers in (spec.mean, spec.std))
    values = np.divide(values - mean, std, dtype=np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _resize_and_crop(image: Image.Image, spec: InputSpec) -> Image.Image:
    height, width = spec.size
    target_h, target_w = math.floor(height / spec.crop_pct), math.floor(width / spec.crop_pct)
    if target_h == target_w:  # the shorter side becomes the target, as torchvision's Resize(int)
        short = min(image.size)
        new = (int(target_h * image.width / short), int(target_h * image.height / short))
    else:  # cover the target, keep the aspect ratio
        scale = max(target_h / image.height, target_w / image.width)
        new = (
            max(width, round(image.width * scale)),
            max(height, round(image.height * scale)),
        )
    left, top = round((new[0] - width) / 2.0), round((new[1] - height) / 2.0)
    if new[0] * new[1] > FREE_PIXELS:  # a strip: make only what is seen of it
        # one grey level off at times: Pillow keeps the box in single precision
        across, down = image.width / new[0], image.height / new[1]
        box = (left * across, top * down, (left + width) * across, (top + height) * down)
        return image.resize((width, height), _FILTERS[spec.interpolation], box=box)
    if new != image.size:
        image = image.resize(new, _FILTERS[spec.interpolation])
    return image.crop((left, top, left + width, top + height))


def build_transform(spec: InputSpec) -> Callable[[ImageLike], Tensor]:
    """A callable from one image (see `read_image`) to a float32 tensor (C, H, W)."""

    def transform(source: ImageLike) -> Tensor:
        import torch

        return torch.from_numpy(preprocess(source, spec))

    return transform
