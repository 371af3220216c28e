"""`--untrusted`: the same command in a child process that may use little."""

from __future__ import annotations

import os
import subprocess

from ..errors import ResourceError
from ..files.processes import run_python

MEMORY_BYTES = 4 << 30
CPU_SECONDS = 60
_MARK = "CONVATTN_LIMITED"


def is_limited() -> bool:
    """Whether this process is the bounded child."""
    return os.environ.get(_MARK) == "1"


def run_limited(args: list[str]) -> int:
    """Run `convattn ARGS` in a child; its output is ours.

    Returns: its exit status.
    Raises: ResourceError if it used up the memory or time, or where limits do not exist.
    """
    try:
        import resource
    except ImportError:
        raise ResourceError(
            "--untrusted needs the process limits of a Unix system; use one, or a container",
            code="no_limits",
        ) from None

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    environment = {**os.environ, _MARK: "1"}
    try:
        done = run_python(
            "-m", "zoo", *args, env=environment, preexec_fn=limit, timeout=2 * CPU_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise _exceeded("time") from None
    if done.returncode < 0:
        raise _exceeded("memory or time")
    return done.returncode


def _exceeded(what: str) -> ResourceError:
    return ResourceError(
        f"the untrusted file used up its {what} ({MEMORY_BYTES >> 30} GiB, {CPU_SECONDS} s of "
        "processor time) and was stopped; do not use it",
        code="untrusted_limit",
    )
