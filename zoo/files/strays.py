"""Names for what is being written, and the removal of what killed processes left. Standard library
only.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator

STALE_SECONDS = 3600.0  # what nobody has touched for so long, and whose process is gone, is a stray
_HIDDEN = re.compile(r"\.convattn-(\d+)-[0-9a-f]{8}")


def hidden_name(suffix: str = "") -> str:
    """A new name for something unfinished; it tells `sweep` which process it belongs to."""
    return f".convattn-{os.getpid()}-{os.urandom(4).hex()}{suffix}"


def owner(name: str) -> int | None:
    """The process that `hidden_name` named in a file name; None for any other name."""
    found = _HIDDEN.match(name)
    return int(found[1]) if found else None


def sweep(folder: str | os.PathLike[str], age_seconds: float = STALE_SECONDS) -> int:
    """Remove what killed processes left in a folder: older than `age_seconds`, its process gone.

    Returns: how many files and folders were removed.
    """
    removed = 0
    for entry in _unfinished(folder):
        pid = owner(entry.name)
        if pid is None or is_alive(pid) or _age(entry) <= age_seconds:
            continue
        with contextlib.suppress(OSError):  # another process may be ahead of us
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
            removed += 1
    return removed


def _unfinished(folder: str | os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        yield from [entry for entry in entries if owner(entry.name) is not None]


def _age(entry: os.DirEntry[str]) -> float:
    """Seconds since anything in a file or folder was changed; 0 if that cannot be seen."""
    try:
        newest = entry.stat(follow_symlinks=False).st_mtime
        if entry.is_dir(follow_symlinks=False):
            for where, _, files in os.walk(entry.path):
                times = [os.lstat(os.path.join(where, name)).st_mtime for name in (*files, ".")]
                newest = max(newest, *times)
    except OSError:
        return 0.0
    return time.time() - newest


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True
