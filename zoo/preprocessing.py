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
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import ImageError, NotFoundError
from .files import read_regular_file
from .records import InputSpec

if TYPE_CHECKING:
    from torch import Tensor

ImageLike = (
    Any  # path, PIL image, uint8 array (H, W), (H, W, 1), (H, W, 3), or uint8 tensor (3, H, W)
)

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
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
        return _read_file(os.fspath(source))
    if isinstance(source, Image.Image):
        return _to_rgb(source)
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


def _read_file(path: str) -> Image.Image:
    import io

    data = read_regular_file(path, "image")
    if not data:
        raise ImageError(f"{path!r} is an empty file; expected an image", code="empty_image")
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ImageError(
            f"{path!r} is not an image that Pillow can read; expected PNG, JPEG, WebP or the like",
            code="not_an_image",
        ) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path!r} is damaged: {error}", code="damaged_image") from None


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


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16L", "I;16B", "I"):
        values = np.asarray(image, dtype=np.float64) / 257.0
        return Image.fromarray(values.clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(background, image).convert("RGB")
    return image.convert("RGB")


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
    values = (values - np.float32(spec.mean)) / np.float32(spec.std)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _resize_and_crop(image: Image.Image, spec: InputSpec) -> Image.Image:
    height, width = spec.size
    target_h, target_w = math.floor(height / spec.crop_pct), math.floor(width / spec.crop_pct)
    if target_h == target_w:  # the shorter side becomes the target, as torchvision's Resize(int)
        short = min(image.size)
        new = tuple(int(target_h * side / short) for side in image.size)
    else:  # cover the target, keep the aspect ratio
        scale = max(target_h / image.height, target_w / image.width)
        new = (
            max(width, round(image.width * scale)),
            max(height, round(image.height * scale)),
        )
    if new != image.size:
        image = image.resize(new, _FILTERS[spec.interpolation])
    left, top = round((image.width - width) / 2.0), round((image.height - height) / 2.0)
    return image.crop((left, top, left + width, top + height))


def build_transform(spec: InputSpec) -> Callable[[ImageLike], Tensor]:
    """A callable from one image (see `read_image`) to a float32 tensor (C, H, W)."""

    def transform(source: ImageLike) -> Tensor:
        import torch

        return torch.from_numpy(preprocess(source, spec))

    return transform


def list_images(paths: list[str]) -> list[str]:
    """Expand folders into the images inside them (sorted, not recursive); files stay as they are.

    Raises: NotFoundError for a path that does not exist, ImageError for a folder without images.
    """
    found: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            inside = sorted(
                e for e in os.listdir(path) if os.path.splitext(e)[1].lower() in IMAGE_SUFFIXES
            )
            if not inside:
                raise ImageError(
                    f"no images in the folder {path!r} (folders in it are not searched); they "
                    f"end in {', '.join(sorted(IMAGE_SUFFIXES))}",
                    code="no_images",
                )
            found += [os.path.join(path, entry) for entry in inside]
        elif os.path.exists(path):
            found.append(path)
        else:
            raise NotFoundError(f"no such file: {path!r}; check the path")
    return found
