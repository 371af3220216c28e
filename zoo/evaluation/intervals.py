"""95 % intervals: Wilson's for shares of a count, the bootstrap for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .checks import check_count

Array = np.ndarray[Any, Any]
Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(correct: float, total: float) -> tuple[float, float]:
    """Score interval of a share `correct` / `total` (Wilson 1927,
    doi:10.1080/01621459.1927.10502953), in [0, 1]. Raises: ValueError for a total of 0.
    """
    if total <= 0:
        raise ValueError(f"a share needs at least one case; got {total}")
    share, z = correct / total, Z
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def bootstrap(
    statistics: Callable[[Array], Mapping[str, float]], size: int, resamples: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap (Efron 1979, doi:10.1214/aos/1176344552) over images.

    Args:
        statistics: weights of the images, float64 (size,), here whole numbers that say how often
            each was drawn -> name -> value; NaN where undefined.
        resamples: number of draws; 0 gives no intervals.
        seed: of the draws.
    Returns: name -> 2.5 % and 97.5 % quantiles of the defined values. A value that no draw changes
        gets none: the bootstrap cannot tell how often what it never saw would happen.
    """
    check_count("resamples", resamples, 0)
    generator = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {}
    for _ in range(resamples):
        drawn = np.bincount(generator.integers(0, size, size), minlength=size)
        for name, value in statistics(drawn.astype(np.float64)).items():
            draws.setdefault(name, []).append(value)
    found = {}
    for name, values in draws.items():
        defined = np.asarray(values)[np.isfinite(values)]
        if len(defined) and np.ptp(defined) > 0:
            low, high = np.quantile(defined, (0.025, 0.975))
            found[name] = (float(low), float(high))
    return found
