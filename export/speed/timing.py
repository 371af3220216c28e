"""Time functions side by side in one process: interleaved rounds, medians, intervals of ratios.

Every round calls every candidate once, in an order that rotates, so that a slow minute of the
machine falls on all of them. A ratio is the median over rounds of the ratio within a round; its
interval is a bootstrap over rounds.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import ConfigError

Run = Callable[[], Any]
Say = Callable[[str], None]

RESAMPLES = 2000  # of the bootstrap
MIN_ROUNDS = 3
_MIB = 2.0**20


@dataclass(frozen=True)
class Timing:
    """Times of one candidate in milliseconds, one per round.

    Raises: ConfigError without samples, or for one that is not a positive number.
    """

    samples_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.samples_ms:
            raise ConfigError("a timing needs at least one sample; got none")
        bad = [x for x in self.samples_ms if not (math.isfinite(x) and x > 0)]
        if bad:
            raise ConfigError(f"times must be positive and finite; got {bad[0]!r} ms")

    @property
    def median_ms(self) -> float:
        """The middle one; robust against a few disturbed rounds."""
        return self.percentile_ms(50)

    @property
    def min_ms(self) -> float:
        """The least disturbed one."""
        return min(self.samples_ms)

    def percentile_ms(self, percent: float) -> float:
        """The time that `percent` % of the rounds do not exceed (linear between neighbours)."""
        return float(np.percentile(self.samples_ms, percent))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "median_ms": self.median_ms,
            "min_ms": self.min_ms,
            "p90_ms": self.percentile_ms(90),
            "p99_ms": self.percentile_ms(99),
            "rounds": len(self.samples_ms),
        }


@dataclass(frozen=True)
class Ratio:
    """A ratio of two times with a 95 % interval."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Ratio:
        """The ratio and its interval times a positive number."""
        return Ratio(self.value * factor, self.low * factor, self.high * factor)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"value": self.value, "interval95": [self.low, self.high]}


def ratio_of(numerator: Timing, denominator: Timing, seed: int = 0) -> Ratio:
    """How many times longer one candidate takes than another that ran in the same rounds.

    Args:
        seed: of the bootstrap; the same samples give the same interval.
    Raises: ConfigError for different numbers of rounds: such timings were not interleaved.
    """
    top, bottom = np.asarray(numerator.samples_ms), np.asarray(denominator.samples_ms)
    if top.shape != bottom.shape:
        raise ConfigError(
            f"a ratio needs timings of the same rounds; got {len(top)} and {len(bottom)}"
        )
    ratios = top / bottom
    generator = np.random.Generator(np.random.PCG64(seed))
    picks = generator.integers(0, len(ratios), (RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[picks], axis=1), (2.5, 97.5))
    return Ratio(float(np.median(ratios)), float(low), float(high))


def measure_rounds(
    candidates: Mapping[str, Run],
    rounds: int = 30,
    *,
    warmup: int = 2,
    limit_s: float = math.inf,
    repeats: int = 1,
) -> dict[str, Timing]:
    """Time every candidate once per round.

    Args:
        rounds: at least 3.
        warmup: untimed calls of each candidate first.
        limit_s: no new round starts after so many seconds, but there are at least 3.
        repeats: calls per sample; a sample is their mean. For calls far below a millisecond.
    Raises: ConfigError for no candidates, or counts out of range.
    """
    if not candidates:
        raise ConfigError("nothing to measure; pass at least one candidate")
    if rounds < MIN_ROUNDS or warmup < 0 or repeats < 1:
        raise ConfigError(
            f"expected rounds >= {MIN_ROUNDS}, warmup >= 0 and repeats >= 1; got {rounds}, "
            f"{warmup}, {repeats}"
        )
    for run in candidates.values():
        for _ in range(warmup):
            run()
    names = list(candidates)
    samples: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + limit_s
    for i in range(rounds):
        if i >= MIN_ROUNDS and time.perf_counter() > end:
            break
        for name in names[i % len(names) :] + names[: i % len(names)]:
            samples[name].append(_time_ms(candidates[name], repeats))
    return {name: Timing(tuple(values)) for name, values in samples.items()}


def _time_ms(run: Run, repeats: int) -> float:
    tick = time.perf_counter()
    for _ in range(repeats):
        run()
    return 1000 * (time.perf_counter() - tick) / repeats


@contextlib.contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let torch compute on so many threads inside the block. Raises: ConfigError below 1."""
    import torch

    if threads < 1:
        raise ConfigError(f"threads must be at least 1; got {threads}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def peak_memory_mib(run: Run) -> float | None:
    """How far one call lifts this process's resident memory above where it stands, in MiB.

    Meant for a fresh process whose inputs and weights exist already. None where the system does
    not report it (elsewhere than on Linux).
    """
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        before = _resident_kib("VmRSS")
        run()
        peak = _resident_kib("VmHWM")
    except (OSError, KeyError):
        return None
    return max(peak - before, 0) * 1024 / _MIB


def _resident_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(dict(line.split(":", 1) for line in lines)[field].split()[0])
