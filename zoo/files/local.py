"""Reading, hashing and atomically writing files. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..catalog.regular_files import read_regular_file as read_regular_file
from ..errors import ResourceError, ZooError
from .json_text import printable
from .strays import hidden_name, sweep


def sha256_bytes(data: bytes) -> str:
    """Hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def resource_error(error: OSError, path: str | os.PathLike[str]) -> ResourceError:
    """Translate an `OSError` met while writing `path` into the zoo's own, with advice."""
    advice = {
        errno.ENOSPC: ("disk_full", "free some space or choose another --out"),
        errno.EDQUOT: ("disk_full", "the quota is used up; choose another --out"),
        errno.EFBIG: ("disk_full", "the file size limit is reached; choose another --out"),
        errno.EACCES: ("not_writable", "choose a directory that you may write to"),
        errno.EPERM: ("not_writable", "choose a directory that you may write to"),
        errno.EROFS: ("not_writable", "the file system is read-only; choose another --out"),
        errno.ENOTDIR: ("not_writable", "a part of the path is a file; choose another --out"),
        errno.EEXIST: ("not_writable", "a file of that name is in the way; choose another --out"),
    }
    code, next_step = advice.get(error.errno or 0, ("resource", "see the reason above"))
    reason = error.strerror or str(error)
    return ResourceError(f"cannot write {os.fspath(path)!r}: {reason}; {next_step}", code=code)


def make_directory(path: str | os.PathLike[str]) -> Path:
    """Create a directory (and its parents) that we are going to write into.

    Raises: ResourceError if it cannot be created or written to.
    """
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise resource_error(error, directory) from None
    return directory


def require_space(folder: Path, size: int, what: str, otherwise: str) -> None:
    """Check before writing that a disk can hold `size` more bytes at `folder`.

    Raises: ResourceError (code "disk_full") that names `what` and offers `otherwise`.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size:
        text = f"{what} needs {size / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"
        raise ResourceError(f"{text}; make room or {otherwise}", code="disk_full")


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside `path`; renamed to `path` on success, removed on any failure.

    The temporary file keeps the suffix of the target, because some writers choose their format by
    it. It is flushed to disk before the rename, so that a crash leaves the old file or the new one.
    What a killed process left there is swept.
    """
    target = Path(path)
    make_directory(target.parent)
    _sweep_once(os.fspath(target.parent))
    temporary = target.parent / hidden_name(target.suffix)
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except ZooError:
        raise
    except OSError as error:
        raise resource_error(error, target) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


@functools.lru_cache(maxsize=1024)
def _sweep_once(folder: str) -> None:
    """Sweep a folder when this process first writes into it."""
    sweep(folder)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file atomically. Raises: ResourceError."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file atomically. Raises: ResourceError."""
    write_bytes(path, printable(text).encode("utf-8"))


def remove_any(path: Path) -> None:
    """Remove what lies under a name, a folder included; nothing there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink()


def home() -> Path:
    """Where the zoo keeps what it must remember: ``$CONVATTN_HOME``, else ~/.cache/convattn."""
    return Path(os.environ.get("CONVATTN_HOME") or "~/.cache/convattn").expanduser()


_KINDS = (
    (b"<!doctype html", "an HTML page (an error page saved as a file?)"),
    (b"<html", "an HTML page (an error page saved as a file?)"),
    (b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull` to get the file itself)"),
    (b"PK\x03\x04", "a zip archive (a PyTorch .pth file? use `convattn import`)"),
    (b"\x80\x02", "a Python pickle (a PyTorch .pth file? use `convattn import`)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x08", "not safetensors (an ONNX model?)"),
    (b'{"', "a JSON document (an error message saved as a file?)"),
)


def wrong_kind(data: bytes) -> str:
    """What the first bytes say the file is, if it clearly is not safetensors; else ''."""
    head = data[:64].lstrip().lower()
    return next((kind for magic, kind in _KINDS if head.startswith(magic.lower())), "")
