"""A directory appears as a whole, or not at all. Standard library only.

What is being written lies under a hidden name beside its place. On success it takes the place in
one step: a rename where nothing is there, an exchange of the two names (renameat2, Linux) where
something is. A kill at any moment leaves the old or the new one whole, and at most one stray, which
the next writer of that place sweeps.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from ..errors import ConfigError, ZooError
from .local import make_directory, resource_error
from .manifest import FILE as MANIFEST
from .manifest import read_manifest
from .strays import hidden_name, is_alive, owner, sweep

_RENAME_EXCHANGE, _AT_FDCWD = 2, -100
_WAS = "-was-"
# why a directory cannot be renamed although it can be written to: it is a mount point, its parent
# is read-only or another's, it lies in a lower layer of a container's file system
_FIXED = (errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)


def require_free(out: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Before any work: whether a directory may be written at `out`.

    Args:
        overwrite: also where a finished directory of ours is.
    Raises: ConfigError: a file ("out"), a directory that we did not write ("out"), a finished one
        ("finished").
    """
    target = Path(out)
    if os.path.lexists(target) and not target.is_dir():
        raise ConfigError(f"{os.fspath(out)!r} is a file; --out names a directory", code="out")
    if not _holds_something(target):
        return
    if not (target / MANIFEST).is_file():
        raise ConfigError(
            f"{os.fspath(out)!r} holds files and no {MANIFEST}, so it is nothing that convattn "
            "finished; choose another --out, or empty it",
            code="out",
        )
    if not overwrite:
        raise ConfigError(
            f"{os.fspath(out)!r} holds {_describe(target)}; choose another --out, or replace it "
            "with --overwrite (overwrite=True)",
            code="finished",
        )


def holds(out: str | os.PathLike[str], name: str, version: str, weights_sha256: str) -> bool:
    """Whether a directory is a finished one of these very weights: it may be written again."""
    try:
        found = read_manifest(os.fspath(out))
        same = (found.name, found.version) == (name, version)
        return same and found.digest("model.safetensors") == weights_sha256
    except ZooError:
        return False


def _describe(target: Path) -> str:
    try:
        found = read_manifest(target)
    except ZooError:
        return f"a finished directory with a damaged {MANIFEST}"
    return f"{found.name[:80]} {found.version[:20]}".rstrip() + " already"


@contextlib.contextmanager
def staged_directory(
    out: str | os.PathLike[str],
    *,
    replace: bool = False,
    drop: Collection[str] = (),
    keep: bool = True,
) -> Iterator[Path]:
    """A folder to write into, which becomes `out` when the block ends without an error.

    Args:
        out: a directory that does not exist or is empty; with `replace` any (see `require_free`).
            Files that the old one's manifest does not list belong to someone else: they are kept.
        drop: of these, names that are not.
        keep: False where all that is there is ours, although no manifest lists it.
    Yields: the folder, empty.
    Raises: ConfigError (code "out") for a file, ResourceError if it cannot be written, or if
        something is there and `replace` was not asked for.
    """
    target = Path(os.path.realpath(out))
    if os.path.lexists(target) and not target.is_dir():
        raise ConfigError(f"{os.fspath(out)!r} is a file; --out names a directory", code="out")
    _recover(target)
    try:
        folder = _new_folder(target)
        try:
            yield folder
            if keep and target.is_dir():
                carry(target, folder, [path for path in _strangers(target) if path not in drop])
            _flush(folder)
            _take_place(folder, target, replace)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except ZooError:
        raise
    except OSError as error:
        raise resource_error(error, out) from None


def carry(old: Path, folder: Path, names: Iterable[str]) -> None:
    """Take files of an old directory into a new one, where that has none of the name.

    They become second names of the same files (copies where the file system has none): nobody may
    write to them in place.
    """
    for name in names:
        source, place = old / name, folder / name
        if os.path.lexists(place) or not os.path.lexists(source):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, place, follow_symlinks=False)
        except OSError:
            shutil.copy2(source, place, follow_symlinks=False)


def exchange(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Let two paths swap what they name, in one step. False where the system cannot: not Linux, an
    old kernel, some network file systems. Raises: OSError.
    """
    if not sys.platform.startswith("linux"):
        return False
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    sys.audit("os.rename", os.fspath(one), os.fspath(other), -1, -1)  # as os.rename does
    ends = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    if function(*ends, _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number))


def _new_folder(target: Path) -> Path:
    """An empty folder beside the target; inside it, where there is no writing beside it."""
    if not target.is_dir():
        make_directory(target.parent)
    sweep(target.parent)
    if target.is_dir():
        sweep(target)
        if _is_fixed(target):
            inside = target / hidden_name()
            inside.mkdir()
            return inside
    beside = target.parent / hidden_name()
    beside.mkdir()
    return beside


def _is_fixed(target: Path) -> bool:
    """Whether a directory must keep its place: a mount point, somebody's working directory (ours,
    and most likely that of the shell), or the only place that may be written to.
    """
    here = Path(os.path.realpath(os.curdir))
    writable = os.access(target.parent, os.W_OK | os.X_OK)
    return target.is_mount() or here.is_relative_to(target) or not writable


def _holds_something(target: Path) -> bool:
    try:
        return any(owner(name) is None for name in os.listdir(target))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise resource_error(error, target) from None


def _files(folder: Path) -> Iterator[str]:
    """All files and links below a folder, but for what is unfinished, with "/" between."""
    for where, inside, files in os.walk(folder):
        inside[:] = [name for name in inside if owner(name) is None]
        links = [name for name in inside if os.path.islink(os.path.join(where, name))]
        for name in (*files, *links):
            if owner(name) is None:
                yield Path(where, name).relative_to(folder).as_posix()


def _strangers(target: Path) -> list[str]:
    """Files of a directory that its manifest does not list."""
    try:
        listed = {MANIFEST, *read_manifest(target).paths}
    except ZooError:
        listed = {MANIFEST}
    return [path for path in _files(target) if path not in listed]


def _flush(folder: Path) -> None:
    """Put a tree on the disk, so that a power cut cannot leave names without contents."""
    for where, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(where, name)
            if not os.path.islink(path):
                _flush_one(path)
        _flush_one(where)


def _flush_one(path: str | os.PathLike[str]) -> None:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # folders, pipes
            raise
    finally:
        os.close(descriptor)


def _take_place(folder: Path, target: Path, replace: bool) -> None:
    """`folder` becomes `target`; what was there is gone afterwards."""
    if folder.parent == target:
        _fill(folder, target)
        return
    try:
        if not _move_in(folder, target, replace) and not exchange(folder, target):
            _replace_in_two_steps(folder, target)
    except OSError as error:
        if error.errno not in _FIXED or not target.is_dir():
            raise
        _fill(folder, target)
    _flush_one(target.parent)


def _move_in(folder: Path, target: Path, replace: bool) -> bool:
    """Rename `folder` to `target`; False where something is there that may be replaced, which
    another writer may have put there a moment ago.
    """
    full = target.is_dir() and bool(os.listdir(target))
    if full and (replace or not _holds_something(target)):
        return False
    try:
        os.rename(folder, target)  # the system refuses where something is
    except OSError as error:
        if replace and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _replace_in_two_steps(folder: Path, target: Path) -> None:
    """Two renames. Killed between them, the next run on the place puts the old one back."""
    old = target.parent / hidden_name(f"{_WAS}{target.name}")
    os.rename(target, old)
    try:
        os.rename(folder, target)
    except OSError:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _recover(target: Path) -> None:
    """Put back a directory whose writer was killed between the two steps."""
    if os.path.lexists(target) or not target.parent.is_dir():
        return
    for name in sorted(os.listdir(target.parent)):
        pid = owner(name)
        if pid is not None and name.endswith(f"{_WAS}{target.name}") and not is_alive(pid):
            with contextlib.suppress(OSError):
                os.rename(target.parent / name, target)
            return


def _fill(folder: Path, target: Path) -> None:
    """The same for a directory that keeps its place: file by file.

    The old manifest goes first and the new one comes last, so that a torn one never passes.
    """
    (target / MANIFEST).unlink(missing_ok=True)
    new = sorted(_files(folder), key=lambda path: path == MANIFEST)
    for path in new:
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.parent / hidden_name()
        shutil.copy2(folder / path, partial, follow_symlinks=False)
        os.replace(partial, place)
    for path in set(_files(target)) - set(new):
        (target / path).unlink()
