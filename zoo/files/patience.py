"""How long we wait for a server: one budget for all attempts at a file. Standard library only.

What counts is the time without a byte: a large file on a slow line may take as long as it takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import NetworkError

PATIENCE_SECONDS = 60.0  # docs/hub.md names it
PAUSES = (0.5, 1.0)  # seconds before the second and third attempt
T = TypeVar("T")


class Patience:
    """The seconds that may pass without a byte, all attempts and pauses together.

    Args:
        seconds: the budget; every byte that arrives fills it up again.
        clock, sleep: for tests.
    """

    def __init__(
        self,
        seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.seconds, self._clock, self._sleep = seconds, clock, sleep
        self.arrived()

    def arrived(self) -> None:
        """Bytes came: the wait begins anew."""
        self._since = self._clock()

    @property
    def left(self) -> float:
        """Seconds of the budget that remain."""
        return max(self.seconds - (self._clock() - self._since), 0.0)

    def retry(self, attempt: Callable[[], T], may_pass: Callable[[Exception], bool]) -> T:
        """The result of the first of three attempts that succeeds.

        There is no further one after an error that will not pass, or where the budget does not
        hold a wait as long as the longest so far.

        Raises: what the last attempt raised.
        """
        longest = 0.0
        for pause in PAUSES:
            started = self._clock()
            try:
                return attempt()
            except Exception as error:
                longest = max(longest, self._clock() - started)
                if not may_pass(error) or self.left < pause + longest:
                    raise
            self._sleep(pause)
        return attempt()

    def call(self, function: Callable[[], T], what: str) -> T:
        """The result of a call that may wait by itself, or an error when the budget is used up.

        The call goes on in a thread that nobody waits for.

        Raises: NetworkError; whatever the call raises.
        """
        done = threading.Event()
        values: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                values.append(function())
            except BaseException as error:  # raised again below
                errors.append(error)
            finally:
                done.set()

        threading.Thread(target=run, daemon=True, name="download").start()
        while not done.wait(min(max(self.left, 0.01), 1.0)):
            if self.left <= 0:
                raise NetworkError(
                    f"{what}: nothing arrived for {self.seconds:.0f} s; check the connection and "
                    "the proxy, or try again later"
                )
        if errors:
            raise errors[0]
        return values[0]
