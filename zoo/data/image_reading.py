"""Image files and PIL images as upright 8-bit RGB, however they come. numpy and Pillow; no torch.

Orientation, transparency and depth are settled here for all verbs and for paths and PIL objects
alike. What cannot be settled is refused by name: an image is never silently another one.
"""

from __future__ import annotations

import functools
import io
import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ImageError, NotFoundError, ResourceError, WeightsFileError, ZooError
from ..files.local import read_regular_file

Array = np.ndarray[Any, Any]

MAX_PIXELS = 178_956_970  # Pillow's own limit
# An image of more than FREE_PIXELS needs a byte for every so many pixels: a photograph has one for
# ten, a drawing for 100; a bomb of 186 bytes declares a hundred thousand for each.
FREE_PIXELS, PIXELS_PER_BYTE = 1 << 24, 256

# What Pillow decodes itself. Left out: EPS and PS (Ghostscript would run them), WMF and EMF, and
# formats that need somebody else's plug-in (BUFR, GRIB, HDF5, MPEG).
FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "MPO", "QOI"),
    *("ICO", "CUR", "ICNS", "TGA", "PSD", "PCX", "DCX", "DDS", "BLP", "FTEX", "SGI", "SUN"),
    *("MSP", "PCD", "PIXAR", "FLI", "XBM", "XPM", "FITS", "GBR"),
)
_COMMON = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM")  # those that Pillow always knows
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_BITS_TAG, _PHOTOMETRIC_TAG, _MAX_TAG, _ORIENTATION_TAG = 258, 262, 281, 274


# What reading one file can raise because of that file (the last one: it is a pipe or a device).
UNREADABLE = (ImageError, NotFoundError, ResourceError, WeightsFileError)


def read_file(path: str | os.PathLike[str]) -> Image.Image:
    """An image file as upright RGB. Raises: one of `UNREADABLE`."""
    name = os.fspath(path)
    data = read_regular_file(path, "image")
    if not data:
        raise ImageError(f"{name!r} is an empty file; expected an image", code="empty_image")
    return decode(data, repr(name))


def decode(data: bytes, name: str) -> Image.Image:
    """An image file held in memory as upright RGB.

    Args:
        name: what messages call it.
    Raises: ImageError with code not_an_image, damaged_image, too_large, or unsupported_image.
    """
    try:
        try:
            image = Image.open(io.BytesIO(data), formats=_COMMON)
        except UnidentifiedImageError:
            image = Image.open(io.BytesIO(data), formats=_known_formats())
        with image:
            return to_rgb(image, name, len(data))
    except (ZooError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is not an image that Pillow can read; expected PNG, JPEG, WebP or the like",
            code="not_an_image",
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name, f"more than {MAX_PIXELS} pixels") from None
    except Exception as error:  # decoders raise whatever they like, and the file is why
        raise _damaged(name, error) from None


def to_rgb(image: Image.Image, name: str = "the image", size_bytes: int = 0) -> Image.Image:
    """A PIL image as upright RGB: over white where it is transparent, deep values scaled to 8 bits.

    Args:
        size_bytes: of the file it comes from; 0 if that is not known.
    Raises: ImageError, see `decode`.
    """
    _check_pixels(image.size, size_bytes, name)
    layout = _layout(image)
    try:
        image.load()
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
        if orientation not in (None, 0, 1):
            image = ImageOps.exif_transpose(image)
        if image.mode in _DEEP:
            return _from_deep(image, name)
        return _over_white(image, layout, name)
    except (ZooError, MemoryError):
        raise
    except Exception as error:  # as in `decode`: an object is decoded only now
        raise _damaged(name, error) from None


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of the files that are taken for images: those of `FORMATS`, lower case."""
    formats = set(_known_formats())
    known = Image.registered_extensions().items()
    return frozenset({".mpo", *(suffix for suffix, kind in known if kind in formats)})


@functools.cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _check_pixels(size: tuple[int, int], size_bytes: int, name: str) -> None:
    pixels = size[0] * size[1]
    if size_bytes and pixels > FREE_PIXELS + PIXELS_PER_BYTE * size_bytes:
        raise _too_large(name, f"{size[0]} x {size[1]} pixels in {size_bytes} bytes")
    if pixels > MAX_PIXELS:
        raise _too_large(name, f"{size[0]} x {size[1]} pixels, more than {MAX_PIXELS}")


def _too_large(name: str, what: str) -> ImageError:
    return ImageError(
        f"{name} declares {what}; that is no photograph. Scale it down first, or leave it out",
        code="too_large",
    )


def _damaged(name: str, error: Exception) -> ImageError:
    reason = " ".join(str(error).split())[:80] or type(error).__name__
    return ImageError(f"{name} is damaged: {ascii(reason)[1:-1]}", code="damaged_image")


def _layout(image: Image.Image) -> str:
    """How the pixels lie in the file, as Pillow calls it ("RGB;16B"); "" where that is over."""
    tiles = getattr(image, "tile", None) or ()
    for tile in tiles:
        arguments = tile[3] if len(tile) > 3 else ()
        first = arguments if isinstance(arguments, str) else next(iter(arguments or ()), "")
        if isinstance(first, str):
            return first
    return ""


def _over_white(image: Image.Image, layout: str, name: str) -> Image.Image:
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.has_transparency_data:
        image = _with_clear_colour(image, layout, name).convert("RGBA")
        background = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(background, image).convert("RGB")
    try:
        return image.convert("RGB")
    except ValueError:
        raise _unsupported(name, f"its pixels are {image.mode}") from None


def _with_clear_colour(image: Image.Image, layout: str, name: str) -> Image.Image:
    """The image with the colour that stands for transparent in 8 bits, as its pixels are: Pillow
    leaves it in the depth of the file.
    """
    colour = image.info.get("transparency")
    deep = isinstance(colour, tuple) and max(colour) > 255
    if isinstance(colour, tuple) and (deep or "16" in layout):
        raise _unsupported(name, "a colour of 16 bits stands for transparent")
    if image.mode == "L" and isinstance(colour, int) and 0 < colour < 16:
        levels = np.unique(np.asarray(image))
        step = next((s for s in (85, 17) if not (levels % s).any() and colour * s < 256), 1)
        image = image.copy()  # the caller's own keeps what it says
        image.info["transparency"] = colour * step
    return image


def _unsupported(name: str, what: str) -> ImageError:
    return ImageError(
        f"{name} is of a kind that is not read: {what}; convert it to 8-bit RGB first",
        code="unsupported_image",
    )


def _from_deep(image: Image.Image, name: str) -> Image.Image:
    """Grey values of 16 or 32 bits or floats, scaled from their range to 0..255."""
    values = np.asarray(image, dtype=np.float64)
    least, most = float(values.min()), float(values.max())
    if not np.isfinite([least, most]).all():
        raise _unsupported(name, "it holds values that are no numbers")
    top = _white(image, most)
    if least < 0 or most > top:
        raise _unsupported(name, f"its values go from {least:g} to {most:g}")
    grey = (values * (255.0 / top)).round()
    if _tag(image, _PHOTOMETRIC_TAG) == 0:  # zero is white
        grey = 255 - grey
    clear = image.info.get("transparency")
    if isinstance(clear, int | float):
        grey[values == clear] = 255
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _white(image: Image.Image, most: float) -> float:
    """The value of white: declared by the file, else the least usual one that holds all values; 0
    if none is likely: floats up to 3, or 12 bits in 32, would come out as good as black.
    """
    declared = _tag(image, _MAX_TAG)
    if isinstance(declared, int | float) and declared > 0:
        return float(declared)
    bits = _tag(image, _BITS_TAG)
    if image.mode.startswith("I;16"):
        return float(2**bits - 1) if isinstance(bits, int) and 8 < bits < 16 else 65535.0
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 65535.0
    least, white = (1.0, 255.0) if image.mode == "F" else (255.0, 65535.0)
    if most <= least:
        return least
    return white if white / 16 < most <= white else 0.0


def _tag(image: Image.Image, number: int) -> Any:
    """A value in the header of a TIFF file; None for any other image."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) and value else value
