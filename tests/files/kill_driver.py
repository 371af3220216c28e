"""Kill a writer before each of its file operations, for real (SIGKILL), and look at what is left.

The writer runs in a forked child. An audit hook counts what it does to files below a folder, and
the child kills itself before operation number n; files that are written whole stop half-way too.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from zoo.files import local as files
from zoo.files import strays

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class _Killer:
    """Counts the file operations below `root`, and ends the process before number `point`."""

    def __init__(self, root: Path, point: int) -> None:
        self.root, self.left = os.path.realpath(root), point

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & _WRITING
        if (writes or event in _CHANGES) and isinstance(args[0], str | bytes | os.PathLike):
            below = os.path.abspath(os.fsdecode(args[0])).startswith(self.root)
            if below or (event in ("os.remove", "os.rmdir") and args[1] != -1):  # by shutil.rmtree
                self.tick()

    def arm(self) -> None:
        """Also before every flush to disk, and in the middle of every file written at once."""
        flush = os.fsync

        def fsync(descriptor: int) -> None:
            self.tick()
            flush(descriptor)

        def write_bytes(path: Path, data: bytes) -> int:
            with open(path, "wb") as handle:
                handle.write(data[: len(data) // 2])
                handle.flush()
                self.tick()
                return handle.write(data[len(data) // 2 :])

        os.fsync = fsync
        Path.write_bytes = write_bytes  # type: ignore[assignment,method-assign]
        sys.addaudithook(self.hook)


def run_whole(work: Callable[[], object], root: Path) -> None:
    """Run `work` in a child to its end, and import here what it imported, so that no later child
    has to.
    """
    listed = root / "imported"

    def list_modules() -> None:
        work()
        listed.write_text("\n".join(sys.modules))

    assert not run_killed(list_modules, root, 10**9)
    for name in listed.read_text().splitlines():
        if name not in sys.modules:
            with contextlib.suppress(ImportError):  # made at run time
                importlib.import_module(name)
    listed.unlink()


def run_killed(work: Callable[[], object], root: Path, point: int) -> bool:
    """Run `work` in a child that dies before its operation number `point`.

    Returns: whether it was killed; False if it was finished before. Any other end is an error.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            files._sweep_once.cache_clear()
            _Killer(root, point).arm()
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(70)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the writer failed"
    return False


def strays_below(root: Path) -> list[str]:
    """Everything unfinished, anywhere below."""
    return [
        os.path.join(where, name)
        for where, folders, names in os.walk(root)
        for name in (*folders, *names)
        if strays.owner(name) is not None
    ]


def let_time_pass(root: Path, seconds: float = 2 * strays.STALE_SECONDS) -> None:
    """Make what is unfinished old."""
    then = time.time() - seconds
    for stray in strays_below(root):
        inside = [
            os.path.join(where, name)
            for where, folders, names in os.walk(stray)
            for name in (*folders, *names)
        ]
        for path in (*inside, stray):
            with contextlib.suppress(OSError):
                os.utime(path, (then, then), follow_symlinks=False)


def kill_everywhere(
    work: Callable[[], object], root: Path, step: int = 1, limit: int = 1000
) -> Iterator[int]:
    """Kill the writer before operation 1, 1 + step, ... until it comes through.

    Yields: the operation, after each kill; what is left there is old then.
    """
    for point in range(1, limit, step):
        if not run_killed(work, root, point):
            return
        let_time_pass(root)
        yield point
    raise AssertionError(f"the writer has more than {limit} file operations")
