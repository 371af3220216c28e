"""Accuracy of any function from images to logits, with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Accuracy:
    """Correct predictions out of a number of images."""

    correct: int
    total: int

    @property
    def percent(self) -> float:
        """Accuracy in percent."""
        return 100.0 * self.correct / self.total

    @property
    def interval_percent(self) -> tuple[float, float]:
        """Wilson score interval of 95 % (Wilson 1927, doi:10.1080/01621459.1927.10502953), in
        percent.
        """
        z = 1.959963984540054
        share, n = self.correct / self.total, self.total
        centre = share + z * z / (2 * n)
        spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        return 100 * (centre - spread) / scale, 100 * (centre + spread) / scale

    def to_dict(self) -> dict[str, Any]:
        """JSON values, rounded to what the counts support."""
        return {
            "correct": self.correct,
            "total": self.total,
            "acc1_percent": round(self.percent, 3),
            "interval95_percent": [round(bound, 3) for bound in self.interval_percent],
        }


def measure_accuracy(
    logits: Callable[[Array], Array], images: Array, targets: Array, batch_size: int = 128
) -> Accuracy:
    """Top-1 accuracy. `images` (n, ...) go to `logits` in batches; `targets` are class numbers
    (n,).

    Raises: ValueError if there are no images, or numbers of images and targets differ.
    """
    if len(images) == 0 or len(images) != len(targets):
        raise ValueError(
            f"expected equally many images and targets, at least one; got {len(images)} and "
            f"{len(targets)}"
        )
    correct = 0
    for start in range(0, len(images), batch_size):
        chosen = slice(start, start + batch_size)
        correct += int((logits(images[chosen]).argmax(-1) == targets[chosen]).sum())
    return Accuracy(correct, len(images))
