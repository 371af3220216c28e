"""Waiting for a server ends: one budget for all attempts, by a clock that the test winds."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from zoo.errors import NetworkError
from zoo.files.patience import PATIENCE_SECONDS, PAUSES, Patience

DOCS = Path(__file__).resolve().parents[2] / "docs" / "hub.md"


class Clock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.attempts = 0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def failing(self, seconds: float, error: Exception | None = None):
        def attempt() -> None:
            self.attempts += 1
            self.wait(seconds)
            raise error or ConnectionError("cut")

        return attempt

    def patience(self) -> Patience:
        return Patience(clock=self, sleep=self.wait)


@pytest.mark.parametrize(
    ("seconds", "attempts"), [(0.1, 3), (10, 3), (23, 2), (29.7, 2), (31, 1), (59, 1)]
)
def test_attempts_and_pauses_together_stay_within_the_budget(seconds: float, attempts: int) -> None:
    clock = Clock()
    with pytest.raises(ConnectionError):
        clock.patience().retry(clock.failing(seconds), lambda _: True)
    assert clock.attempts == attempts
    assert clock.now - 100 == pytest.approx(seconds * attempts + sum(PAUSES[: attempts - 1]))
    assert clock.now - 100 <= PATIENCE_SECONDS


def test_an_error_that_will_not_pass_is_raised_at_once() -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="no"):
        clock.patience().retry(clock.failing(1, ValueError("no")), lambda e: isinstance(e, OSError))
    assert clock.attempts == 1


def test_bytes_that_arrive_fill_the_budget_up() -> None:
    clock = Clock()
    patience = clock.patience()

    def slow() -> str:
        for _ in range(100):
            clock.wait(50)
            patience.arrived()
        return "5000 s later"

    assert patience.retry(slow, lambda _: False) == "5000 s later"
    clock.wait(59)
    assert patience.left == pytest.approx(1)


def test_a_call_that_waits_by_itself_is_left_alone_when_the_budget_is_used_up() -> None:
    never = threading.Event()
    with pytest.raises(NetworkError, match="nothing arrived for 0 s"):
        Patience(seconds=0.2).call(never.wait, "cannot download x of a/b")
    never.set()


def test_a_call_returns_or_raises_what_it_would() -> None:
    assert Patience().call(lambda: 5, "x") == 5
    with pytest.raises(KeyError):
        Patience().call(lambda: {}["a"], "x")


def test_the_page_states_the_budget() -> None:
    text = " ".join(DOCS.read_text(encoding="utf-8").split())
    assert f"tried {['', 'once', 'twice', 'three times'][len(PAUSES) + 1]}" in text
    assert f"at most {PATIENCE_SECONDS:.0f} s without a byte" in text
