"""One writer of a directory at a time. Standard library only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ..errors import ResourceError


@contextlib.contextmanager
def sole_writer(out: str | os.PathLike[str]) -> Iterator[None]:
    """No other process is inside with the same directory, which exists.

    It is the system's lock, which ends with the process and leaves nothing. Windows and some
    network file systems have none; there nobody is refused.

    Raises: ResourceError (code "in_use").
    """
    descriptor = _locked(out)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked(out: str | os.PathLike[str]) -> int | None:
    """The open directory with its lock; None where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    except OSError as error:
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            return None
    text = "another process is writing it; wait until that has ended, or choose another --out"
    raise ResourceError(f"{os.fspath(out)!r} is in use: {text}", code="in_use")
