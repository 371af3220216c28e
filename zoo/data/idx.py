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
        data = _unpack(data, Path(path).name)
    return parse_idx(data, dimensions, Path(path).name)


def parse_idx(data: bytes, dimensions: int, name: str) -> Array:
    """The array of an unpacked IDX file. Raises: DatasetError, see `read_idx`."""
    expected = bytes((0, 0, _UINT8, dimensions))
    if data[:4] != expected:
        raise DatasetError(
            f"{name} is no IDX file of {dimensions} dimensions: it begins with "
            f"{data[:4].hex() or 'nothing'}, expected {expected.hex()}; are images and labels "
            "swapped?",
            code="magic",
        )
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise DatasetError(f"{name} ends inside its header; fetch it again", code="truncated")
    sizes = struct.unpack(f">{dimensions}I", data[4:start])
    count = math.prod(sizes)
    if count > MAX_BYTES:
        raise DatasetError(
            f"{name} claims {' x '.join(map(str, sizes))} values; at most {MAX_BYTES} are read",
            code="too_large",
        )
    if len(data) - start != count:
        shorter = len(data) - start < count
        raise DatasetError(
            f"{name} has {len(data) - start} bytes of values; its header says "
            f"{' x '.join(map(str, sizes))} = {count}. It is "
            f"{'cut short' if shorter else 'longer'}; fetch it again",
            code="truncated" if shorter else "too_long",
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(sizes)


def _unpack(data: bytes, name: str) -> bytes:
    """gzip's content, never more than a header and `MAX_BYTES`."""
    import io

    try:
        with gzip.open(io.BytesIO(data)) as packed:
            return packed.read(MAX_BYTES + 64)
    except (EOFError, OSError, zlib.error) as error:
        raise DatasetError(
            f"{name} is damaged or cut short ({str(error)[:80]}); fetch it again", code="damaged"
        ) from None
