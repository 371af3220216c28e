"""The IDX format of the MNIST family: a magic number, the sizes, then the bytes.

Magic: two zero bytes, the type of the values (8: uint8), the number of dimensions; then each size
as a big-endian 32-bit number (the format's description on MNIST's page, yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError
from ..files.local import read_regular_file

Array = np.ndarray[Any, Any]
MAX_BYTES = 1 << 30  # of values: the largest of the family, EMNIST, has 0.6 GB
_UINT8 = 8


def read_idx(path: str | Path, dimensions: int) -> Array:
    """An IDX file of bytes, as it is or packed by gzip.

    Args:
        dimensions: 3 for images (n, H, W), 1 for class numbers (n,).
    Returns: uint8 array, read-only.
    Raises: NotFoundError, ResourceError; DatasetError for another format ("magic"), fewer or more
        bytes than the header says ("truncated", "too_long"), a damaged archive ("damaged"), or more
        than 1 GiB ("too_large").
    """
    data = read_regular_file(path, "IDX file")
    if data[:2] == b"\x1f\x8b":
        data = _unpack(data, dimensions, Path(path).name)
    return parse_idx(data, dimensions, Path(path).name)


def parse_idx(data: bytes, dimensions: int, name: str) -> Array:
    """The array of an unpacked IDX file. Raises: DatasetError, see `read_idx`."""
    start, sizes = 4 + 4 * dimensions, _sizes(data, dimensions, name)
    count = math.prod(sizes)
    if len(data) - start != count:
        shorter = len(data) - start < count
        raise DatasetError(
            f"{name} has {'only' if shorter else 'at least'} {len(data) - start} bytes of values; "
            f"its header says {' x '.join(map(str, sizes))} = {count}. It is "
            f"{'cut short' if shorter else 'longer'}; fetch it again",
            code="truncated" if shorter else "too_long",
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(sizes)


def _sizes(data: bytes, dimensions: int, name: str) -> tuple[int, ...]:
    """What the header says. Raises: DatasetError."""
    expected = bytes((0, 0, _UINT8, dimensions))
    if data[:4] != expected:
        raise DatasetError(
            f"{name} is no IDX file of {dimensions} dimensions: it begins with "
            f"{data[:4].hex() or 'nothing'}, expected {expected.hex()}; are images and labels "
            "swapped?",
            code="magic",
        )
    if len(data) < 4 + 4 * dimensions:
        raise DatasetError(f"{name} ends inside its header; fetch it again", code="truncated")
    sizes = struct.unpack_from(f">{dimensions}I", data, 4)
    if math.prod(sizes) > MAX_BYTES:
        raise DatasetError(
            f"{name} claims {' x '.join(map(str, sizes))} values; at most {MAX_BYTES} are read",
            code="too_large",
        )
    return sizes


def _unpack(data: bytes, dimensions: int, name: str) -> bytes:
    """gzip's content, at most a byte more than its header claims."""
    import io

    try:
        with gzip.open(io.BytesIO(data)) as packed:
            header = packed.read(4 + 4 * dimensions)
            return header + packed.read(math.prod(_sizes(header, dimensions, name)) + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DatasetError(
            f"{name} is damaged or cut short ({str(error)[:80]}); fetch it again", code="damaged"
        ) from None
