"""What killed processes leave of a download in the Hub client's cache."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from .strays import is_alive, owner


def remove_orphans(folder: Path, age_seconds: float) -> int:
    """Delete partial downloads that killed processes left behind: the client never uses them again.
    Those that a process is at stay.

    Returns: how many bytes that freed.
    """
    freed = 0
    for path in folder.glob("*.incomplete"):
        with contextlib.suppress(OSError):  # another process may be ahead of us
            state = path.stat()
            if time.time() - state.st_mtime > age_seconds and not _in_use(path):
                path.unlink()
                freed += state.st_size
    return freed


def _in_use(partial: Path) -> bool:
    """Whether a process is downloading it: it holds the client's lock of the blob. What was set
    aside is its process's.
    """
    pid = owner(partial.name)
    if pid is not None:
        return is_alive(pid)
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    repository, blob = partial.parents[1], partial.name.partition(".")[0]
    lock = repository.parent / ".locks" / repository.name / f"{blob}.lock"
    try:
        with WeakFileLock(lock, timeout=0.1) if lock.exists() else contextlib.nullcontext():
            return False
    except Timeout:
        return True
