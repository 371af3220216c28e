"""Odd image files with what they show: one stripe picture in every kind, depth and orientation."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]
HEIGHT, WIDTH = 24, 32
_SUFFIX = {"JPEG2000": "jp2"}


@dataclass(frozen=True)
class Odd:
    """A file, and the RGB pixels that it shows; `plain` is None where it must be refused by name.

    Args:
        tolerance: grey levels that a lossy format may be off on average.
    """

    name: str
    data: bytes
    plain: Array | None
    tolerance: float = 0.0


def picture() -> Array:
    """uint8 (24, 32, 3); no symmetry, so that every turn of it is another picture."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    image = np.stack([x * 8, y * 10, (x + y) * 4], -1).astype(np.uint8)
    image[2:8, 3:9] = (250, 20, 10)
    return image


def grey() -> Array:
    """uint8 (24, 32)."""
    return picture()[:, :, 0]


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _three(values: Array) -> Array:
    return np.repeat(values[:, :, None], 3, 2)


def _over_white(values: Array, alpha: Array) -> Array:
    share = alpha[:, :, None].astype(np.float64) / 255
    return (values * share + 255 * (1 - share)).round().astype(np.uint8)


def png(depth: int, colour: int, rows: list[bytes], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file by hand: what Pillow itself never writes."""
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    out = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), *chunks, (b"IDAT", body), (b"IEND", b"")):
        check = zlib.crc32(kind + data)
        out += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
    return out


def tiff(values: Array, photometric: int = 1, *tags: tuple[int, int, int]) -> bytes:
    """A one-strip grey TIFF of any number type; tags are (number, type, value)."""
    kinds = {"u": 1, "i": 2, "f": 3}
    raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
    entries = [
        *((256, 3, values.shape[1]), (257, 3, values.shape[0])),
        *((258, 3, values.dtype.itemsize * 8), (259, 3, 1), (262, 3, photometric)),
        *((273, 4, 0), (277, 3, 1), (278, 3, values.shape[0]), (279, 4, len(raw))),
        *((339, 3, kinds[values.dtype.kind]), *tags),
    ]
    entries.sort()
    start = 8 + 2 + 12 * len(entries) + 4
    body = struct.pack("<H", len(entries))
    for number, kind, value in entries:
        value = start if number == 273 else value
        packed = struct.pack("<f", value) if kind == 11 else struct.pack("<I", value)
        body += struct.pack("<HHI", number, kind, 1) + packed
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 0) + raw


def turned() -> Iterator[Odd]:
    """All eight orientations, in the formats that state one."""
    turns: tuple[Callable[[Array], Array], ...] = (
        *(lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1, ::-1], lambda a: a[::-1]),
        *(lambda a: a.transpose(1, 0, 2), lambda a: np.rot90(a, -1)),
        *(lambda a: np.rot90(a, 2).transpose(1, 0, 2), lambda a: np.rot90(a, 1)),
    )
    for number, turn in enumerate(turns, 1):
        exif = Image.Exif()
        exif[0x0112] = number
        image = Image.fromarray(picture())
        for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
            data = _saved(image, kind, exif=exif, **options)
            yield Odd(f"turned_{number}.{kind.lower()}", data, turn(picture()))
        data = _saved(image, "JPEG", exif=exif, quality=100, subsampling=0)
        yield Odd(f"turned_{number}.jpg", data, turn(picture()), 1.5)
    exif = Image.Exif()
    exif[0x0112] = 0
    yield Odd("turned_0.png", _saved(Image.fromarray(picture()), "PNG", exif=exif), picture())


def transparent() -> Iterator[Odd]:
    """Alpha of every kind, over white."""
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[:, 8:] = 128
    alpha[:, 20:] = 255
    full = _over_white(picture(), alpha)
    rgba = Image.fromarray(np.dstack([picture(), alpha]))
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        yield Odd(f"rgba.{kind.lower()}", _saved(rgba, kind, **options), full, 0.5)
    for kind in ("TGA", "ICO", "JPEG2000", "DDS", "QOI", "SGI"):
        options = {"sizes": [(WIDTH, HEIGHT)]} if kind == "ICO" else {}
        yield Odd(
            f"rgba.{_SUFFIX.get(kind, kind.lower())}", _saved(rgba, kind, **options), full, 0.5
        )
    la = Image.fromarray(np.dstack([grey(), alpha]), "LA")
    expected = _over_white(_three(grey()), alpha)
    for kind in ("PNG", "TIFF", "TGA", "JPEG2000"):
        yield Odd(f"la.{_SUFFIX.get(kind, kind.lower())}", _saved(la, kind), expected, 0.5)
    yield from _transparent_colours()


def _transparent_colours() -> Iterator[Odd]:
    """One colour or palette entries stand for transparent."""
    palette = Image.fromarray(grey() // 32 * 32).quantize(8)
    index = np.asarray(palette)
    shown = np.asarray(palette.convert("RGB")).copy()
    shown[index == 2] = 255
    for kind in ("PNG", "GIF"):
        yield Odd(f"palette_clear.{kind.lower()}", _saved(palette, kind, transparency=2), shown)
    red = picture()
    red[(red == (250, 20, 10)).all(-1)] = 255
    data = _saved(Image.fromarray(picture()), "PNG", transparency=(250, 20, 10))
    yield Odd("rgb_clear.png", data, red)
    level = _three(np.where(grey() == 80, 255, grey()).astype(np.uint8))
    yield Odd("l_clear.png", _saved(Image.fromarray(grey()), "PNG", transparency=80), level)
    deep = grey().astype(">u2") * 257
    rows = [row.tobytes() for row in deep]
    clear = (b"tRNS", struct.pack(">H", 80 * 257))
    yield Odd("deep_grey_clear.png", png(16, 0, rows, clear), level)
    deep = picture().astype(">u2") * 257
    clear = (b"tRNS", struct.pack(">HHH", *(v * 257 for v in (250, 20, 10))))
    yield Odd("deep_rgb_clear.png", png(16, 2, [r.tobytes() for r in deep], clear), None)
    for bits in (1, 2, 4):
        values = grey().astype(np.uint16) >> (8 - bits)
        packed = [_pack(row, bits) for row in values]
        top = 2**bits - 1
        scaled = (values * (255 // top)).astype(np.uint8)
        clear = (b"tRNS", struct.pack(">H", top))
        yield Odd(f"grey_{bits}_bits.png", png(bits, 0, packed), _three(scaled))
        shown = _three(np.where(values == 1, 255, scaled).astype(np.uint8))
        clear = (b"tRNS", struct.pack(">H", 1))
        yield Odd(f"grey_{bits}_bits_clear.png", png(bits, 0, packed, clear), shown)


def _pack(row: Array, bits: int) -> bytes:
    flat = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
    return np.packbits(flat.reshape(-1)).tobytes()


def deep() -> Iterator[Odd]:
    """16 and 32 bits, floats, and their ranges."""
    values = grey().astype(np.uint16)
    expected = _three(grey())
    yield Odd("deep.png", _saved(Image.fromarray(values * 257), "PNG"), expected)
    yield Odd("deep.tif", _saved(Image.fromarray(values * 257), "TIFF"), expected)
    yield Odd("deep.ppm", _saved(Image.fromarray(values * 257), "PPM"), expected)
    yield Odd("deep.jp2", _saved(Image.fromarray(values * 257), "JPEG2000"), expected)
    rgb = [row.tobytes() for row in picture().astype(">u2") * 257]
    yield Odd("deep_rgb.png", png(16, 2, rgb), picture())
    alpha = np.full((HEIGHT, WIDTH, 1), 65535, ">u2")
    rgba = np.concatenate([picture().astype(">u2") * 257, alpha], 2)
    yield Odd("deep_rgba.png", png(16, 6, [row.tobytes() for row in rgba]), picture())
    white = np.uint16(65535) - values * 257
    yield Odd("deep_white_is_zero.tif", tiff(white, 0), expected)
    yield Odd("grey_white_is_zero.tif", tiff((255 - grey()).astype(np.uint8), 0), expected)
    whole = values.astype(np.int32)
    yield Odd("int32_255.tif", tiff(whole), expected)
    yield Odd("int32_65535.tif", tiff(whole * 257), expected)
    yield Odd("int32_declared.tif", tiff(whole * 4, 1, (281, 4, 255 * 4)), expected)
    yield Odd("int32_huge.tif", tiff(whole * 100_000), None)
    yield Odd("int32_negative.tif", tiff(whole - 100), None)
    yield Odd("uint32.tif", tiff((values * 257).astype(np.uint32)), expected)
    yield Odd("int16.tif", tiff(values.astype(np.int16)), expected)
    share = (grey() / 255).astype(np.float32)
    yield Odd("float_1.tif", tiff(share), expected)
    yield Odd("float_255.tif", tiff(share * 255), expected)
    yield Odd("float_3.tif", tiff(share * 3), None)
    yield Odd("int32_12_bits.tif", tiff(whole * 16), None)
    yield Odd("float_negative.tif", tiff(share - 0.5), None)
    yield Odd("float_huge.tif", tiff(share * 1e6), None)
    yield Odd("float64.tif", tiff(share.astype(np.float64)), None)
    broken = share.copy()
    broken[3, 3] = np.nan
    yield Odd("float_nan.tif", tiff(broken), None)
    broken[3, 3] = np.inf
    yield Odd("float_inf.tif", tiff(broken), None)
    yield Odd("float.pfm", _saved(Image.fromarray(share), "PPM"), expected)


def plain() -> Iterator[Odd]:
    """Every format and mode that Pillow writes, without anything odd."""
    image = Image.fromarray(picture())
    lossless = ("PNG", "BMP", "DIB", "TIFF", "PPM", "TGA", "PCX", "SGI", "DDS", "QOI", "ICO")
    for kind in lossless:
        options = {"sizes": [(WIDTH, HEIGHT)]} if kind == "ICO" else {}
        yield Odd(f"rgb.{kind.lower()}", _saved(image, kind, **options), picture())
        if kind not in ("SGI", "ICO", "QOI", "DDS"):
            data = _saved(Image.fromarray(grey()), kind)
            yield Odd(f"grey.{kind.lower()}", data, _three(grey()))
    yield Odd("rgb.webp", _saved(image, "WEBP", lossless=True), picture())
    yield Odd("rgb.jp2", _saved(image, "JPEG2000"), picture())
    yield Odd("rgb.avif", _saved(image, "AVIF", quality=100), picture(), 3.0)
    for name, options in (("rgb", {}), ("progressive", {"progressive": True})):
        data = _saved(image, "JPEG", quality=100, subsampling=0, **options)
        yield Odd(f"{name}.jpg", data, picture(), 1.5)
    yield Odd("rgb.jfif", _saved(image, "JPEG", quality=100, subsampling=0), picture(), 1.5)
    yield Odd("rgb.mpo", _saved(image, "MPO", quality=100, subsampling=0), picture(), 1.5)
    cmyk = image.convert("CMYK")
    shown = np.asarray(cmyk.convert("RGB"))
    yield Odd("cmyk.tif", _saved(cmyk, "TIFF"), shown)
    yield Odd("cmyk.jpg", _saved(cmyk, "JPEG", quality=100, subsampling=0), shown, 2.0)
    lab = Image.fromarray(picture(), "LAB")
    yield Odd("lab.tif", _saved(lab, "TIFF"), np.asarray(lab.convert("RGB")))
    ycbcr = image.convert("YCbCr")
    yield Odd("ycbcr.tif", _saved(ycbcr, "TIFF"), np.asarray(ycbcr.convert("RGB")), 1.0)
    one = image.convert("1")
    bits = np.asarray(one.convert("RGB"))
    for kind in ("PNG", "TIFF", "BMP", "PPM", "MSP", "XBM"):
        yield Odd(f"bits.{kind.lower()}", _saved(one, kind), bits)
    palette = image.quantize(16)
    shown = np.asarray(palette.convert("RGB"))
    for kind in ("PNG", "GIF", "BMP", "TIFF", "PCX", "TGA"):
        yield Odd(f"palette.{kind.lower()}", _saved(palette, kind), shown)
    first, second = image, Image.fromarray(255 - picture())
    for kind, options in (("TIFF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        data = _saved(first, kind, save_all=True, append_images=[second], **options)
        yield Odd(f"two_pages.{kind.lower()}", data, picture())


def odd_images() -> list[Odd]:
    """All of them."""
    return [*plain(), *turned(), *transparent(), *deep()]
