"""Files in object stores: ``s3://bucket/key``, ``gs://bucket/key``, ``hf://datasets/NAME/file``,
through pyarrow's file systems (extra `batch`; hf:// through huggingface_hub's), or on this machine.

Credentials, regions and endpoints are those of the store's own variables (AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN ...). What follows a ``?`` in an address
is pyarrow's, e.g. ``s3://bucket/key?region=eu-west-1``; no row says it.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from ...data.image_listing import is_visible
from ...errors import ConfigError, MissingDependencyError, NetworkError, NotFoundError
from ...files.local import read_regular_file

SCHEMES = ("s3", "gs", "hf")
_BUFFER = 1 << 20
_MAX_BYTES = 1 << 30  # of a file that is read whole


def is_remote(place: str) -> bool:
    """Whether it is an address in an object store."""
    scheme, colon, _ = place.partition("://")
    return bool(colon) and scheme in SCHEMES


def shown(place: str) -> str:
    """A place as rows and messages call it: without what follows ``?`` in an address."""
    return place.partition("?")[0] if is_remote(place) else place


def read_place(place: str, what: str = "file", limit: int = _MAX_BYTES) -> bytes:
    """The bytes of a file. Raises: NotFoundError, NetworkError; as `read_regular_file`."""
    if not is_remote(place):
        return read_regular_file(place, what, limit)
    with store_errors(place), open_stream(place) as handle:
        return bytes(handle.read(limit))


def open_place(place: str) -> Any:
    """A file to read anywhere in: the path itself, or a handle. Raises: as `read_place`."""
    if not is_remote(place):
        return place
    system, path = _found(place)
    with store_errors(place):
        return system.open_input_file(path)


def open_stream(place: str) -> IO[bytes]:
    """A remote file to read from its beginning. Raises: as `read_place`."""
    system, path = _found(place)
    with store_errors(place):
        return io.BufferedReader(system.open_input_stream(path, compression=None), _BUFFER)


def size_of(place: str) -> int:
    """In bytes, of a remote file. Raises: as `read_place`."""
    system, path = _found(place)
    with store_errors(place):
        return int(system.get_file_info(path).size)


def list_place(place: str) -> list[str] | None:
    """The visible files in a remote folder and below it, sorted; None for a file.

    Raises: NotFoundError if there is neither; NetworkError; ConfigError for an address that
        is none.
    """
    from pyarrow.fs import FileSelector, FileType

    system, path = _found(place)
    with store_errors(place):
        info = system.get_file_info(path)
        if info.type == FileType.File:
            return None
        inside = [] if info.type == FileType.NotFound else list(
            system.get_file_info(FileSelector(path, recursive=True))
        )  # fmt: skip
    if info.type == FileType.NotFound:
        raise NotFoundError(f"nothing at {shown(place)!r}; check the address and your rights")
    scheme, _, rest = place.partition("://")
    query = rest[len(rest.partition("?")[0]) :]
    skip = len(path.rstrip("/"))
    files = (f.path for f in inside if f.type == FileType.File)
    kept = (name for name in files if all(map(is_visible, name[skip:].strip("/").split("/"))))
    return [f"{scheme}://{name}{query}" for name in sorted(kept)]


@contextmanager
def store_errors(place: str) -> Iterator[None]:
    """What a store refuses, as ours. Raises: NotFoundError, NetworkError."""
    try:
        yield
    except FileNotFoundError:
        raise NotFoundError(f"nothing at {shown(place)!r}; check the address") from None
    except OSError as error:
        if isinstance(error, NetworkError | NotFoundError):
            raise
        reason = ascii(" ".join(str(error).split()))[1:120]
        raise NetworkError(
            f"cannot read {shown(place)!r}: {reason}; check address, rights and network"
        ) from None


def _found(place: str) -> tuple[Any, str]:
    scheme, _, rest = place.partition("://")
    path, question, query = rest.partition("?")
    bucket = path.partition("/")[0]
    with store_errors(place):
        return _file_system(f"{scheme}://{bucket}{question}{query}"), path


@functools.lru_cache(maxsize=16)
def _file_system(address: str) -> Any:
    """Asked once for each bucket: finding its region is a request."""
    try:
        from pyarrow.fs import FileSystem
    except ImportError:
        raise MissingDependencyError(
            "object stores need pyarrow: pip install 'convattn-zoo[batch]'"
        ) from None
    try:
        return FileSystem.from_uri(address)[0]
    except ValueError as error:
        raise ConfigError(
            f"{shown(address)!r} with what follows its '?' is no address: "
            f"{ascii(str(error))[1:120]}",
            code="address",
        ) from None
