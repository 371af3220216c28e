"""Python processes that we start. None of them looks for modules in the working directory.

``python -m`` and ``python -c`` put the working directory first on the path, so that a `numpy.py` in
a downloaded repository would run; an empty or relative entry of PYTHONPATH does the same. Standard
library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.pool import Pool

HOME = Path(__file__).resolve().parents[2]  # where `zoo` and `export` lie
_SAFE = "PYTHONSAFEPATH"
# ours after the standard library and before all else; then as `python -m` or `python -c`
_BOOT = """\
import os, sys
_, places, kind, what, *rest = sys.argv
at = sys.path.index(os.path.dirname(os.__file__)) + 1
sys.path[at:at] = places.split(os.pathsep)
sys.argv = [kind, *rest]
if kind == "-m":
    import runpy
    runpy.run_module(what, run_name="__main__", alter_sys=True)
else:
    exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
"""


def run_python(
    *arguments: str, env: Mapping[str, str] | None = None, home: Path = HOME, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Run this Python with ``-m MODULE ARGS`` or ``-c CODE ARGS``, isolated.

    `zoo` and `export` are ours. What PYTHONPATH names stays importable, but for entries that are
    relative or the working directory.

    Args:
        env: the environment; this process's without it.
        home: the folder in which `zoo` and `export` lie.
        options: of `subprocess.run`.
    Raises: what `subprocess.run` raises.
    """
    if len(arguments) < 2 or arguments[0] not in ("-m", "-c"):
        raise ValueError(f"expected -m MODULE or -c CODE; got {arguments}")
    variables = dict(os.environ if env is None else env)
    named = variables.pop("PYTHONPATH", "").split(os.pathsep)
    here = os.path.realpath(options.get("cwd") or os.curdir)
    kept = [path for path in named if os.path.isabs(path) and os.path.realpath(path) != here]
    places = os.pathsep.join([str(home), *kept])
    command = [sys.executable, "-P", "-c", _BOOT, places, *arguments]
    return subprocess.run(command, env={**variables, _SAFE: "1"}, **options)


def run_forked(
    function: Callable[..., None], *arguments: Any, timeout: float | None = None
) -> int | None:
    """Run a function in a copy of this process, with all that it has imported. POSIX only.

    What the copy has started ends with it.

    Returns: its exit code; None if it took more than `timeout` seconds.
    """
    import multiprocessing

    def in_own_session() -> None:
        os.setsid()
        function(*arguments)

    child = multiprocessing.get_context("fork").Process(target=in_own_session)
    child.start()
    try:
        child.join(timeout)
        return child.exitcode
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid or 0, signal.SIGKILL)
        child.join()


@contextlib.contextmanager
def worker_pool(count: int, start: Any, arguments: tuple[Any, ...]) -> Iterator[Pool]:
    """A pool of fresh worker processes, isolated like `run_python`.

    Args:
        count: of workers.
        start: called with `arguments` in each of them first.
    """
    import multiprocessing

    before = {name: os.environ.pop(name, None) for name in (_SAFE, "PYTHONPATH")}
    os.environ[_SAFE] = "1"  # read by a worker before our path is sent to it
    try:
        with multiprocessing.get_context("spawn").Pool(count, start, arguments) as pool:
            yield pool
    finally:
        del os.environ[_SAFE]
        os.environ.update({name: value for name, value in before.items() if value is not None})


@contextlib.contextmanager
def safe_children() -> Iterator[None]:
    """Python processes that libraries start meanwhile do not look in the working directory either:
    torch's compiler tries what it has built with ``python -c``.
    """
    before = os.environ.get(_SAFE)
    os.environ[_SAFE] = "1"
    try:
        yield
    finally:
        del os.environ[_SAFE]
        if before is not None:
            os.environ[_SAFE] = before


def forget_working_directory() -> None:
    """Take the working directory from the path, where ``python -m zoo`` has put it.

    It stays if `zoo` itself lies there.
    """
    here = os.path.realpath(os.curdir)
    first = sys.path[0] if sys.path else None
    if first is not None and os.path.realpath(first or os.curdir) == here and here != str(HOME):
        del sys.path[0]
