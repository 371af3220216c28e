"""Reading regular files whole, and nothing else: no folder, no pipe, no device. Standard library
only.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import NotFoundError, ResourceError, WeightsFileError

_NO_SUCH_NAME = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def read_regular_file(
    path: str | os.PathLike[str], what: str = "file", max_bytes: int | None = None
) -> bytes:
    """Read a whole regular file into memory.

    A FIFO or device would block or never end, so they are refused before a byte is read.

    Args:
        what: the file is, for messages.
        max_bytes: refuse a larger file, before it is read.
    Raises:
        NotFoundError: the file does not exist, or nothing can have such a name.
        ResourceError: it cannot be read.
        WeightsFileError: it exists and is not a regular file (code "not_a_file"), or is too large
            ("limit").
    """
    name = _shown(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except ValueError:  # a NUL in the name
        raise NotFoundError(f"no {what} can be called {name}; check the path") from None
    except OSError as error:
        text = f"cannot read {what} {name}: {error.strerror}"
        if error.errno in _NO_SUCH_NAME:
            raise NotFoundError(f"{text}; check the path") from None
        raise ResourceError(f"{text}; check its rights", code="unreadable") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            text = f"{name} is not a regular file; pass the path of one that is"
            raise WeightsFileError(text, code="not_a_file")
        _check_size(found.st_size, max_bytes, name, what)
        with open(descriptor, "rb", closefd=False) as handle:
            data = handle.read() if max_bytes is None else handle.read(max_bytes + 1)
        _check_size(len(data), max_bytes, name, what)  # what grows, or states no size
        return data
    except OSError as error:
        if isinstance(error, ResourceError):
            raise
        text = f"cannot read {what} {name}: {error.strerror}; try again, or check the disk"
        raise ResourceError(text, code="unreadable") from None
    finally:
        os.close(descriptor)


def _check_size(size: int, most: int | None, name: str, what: str) -> None:
    if most is not None and size > most:
        text = f"{name} is larger than {most} bytes; it is no {what}, pass the right file"
        raise WeightsFileError(text, code="limit")


def _shown(path: str | os.PathLike[str]) -> str:
    """A path for a message: quoted, printable, its end kept if it is long."""
    text = repr(os.fspath(path))  # escapes what cannot be shown, and nothing else
    return text if len(text) <= 120 else f"{text[:20]}…{text[-99:]}"
