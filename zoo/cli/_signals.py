"""SIGTERM and SIGHUP end the command as Ctrl-C does: what was begun is cleaned up."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from types import FrameType

_CLEANING_SECONDS = 10.0  # after a signal, in which others are not heard
NAMES = ("SIGTERM", "SIGHUP")  # the second does not exist everywhere


class Terminated(KeyboardInterrupt):
    """Raised in the main thread by such a signal.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def clean_stops() -> Iterator[list[int]]:
    """Turn the signals into `Terminated`. One that is ignored (nohup) stays so; a second one does
    not disturb the cleaning, but ends what goes on all the same: libraries may catch the first.

    Yields: the numbers of those that came.
    """
    came: list[int] = []
    last = -math.inf

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last < _CLEANING_SECONDS:
            return
        last = time.monotonic()
        came.append(number)
        raise Terminated(number)

    before = {}
    for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
        if signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # not in the main thread
                before[number] = signal.signal(number, stop)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status(error: BaseException) -> int:
    """128 and the number of the signal, as shells count: 130 for Ctrl-C."""
    cause = error if isinstance(error, Terminated) else error.__cause__
    return 128 + (cause.number if isinstance(cause, Terminated) else signal.SIGINT)
