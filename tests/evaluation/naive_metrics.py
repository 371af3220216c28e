"""Textbook metrics as loops over images, from the equations in docs/evaluation.md."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def naive(p: Array, y: Array, bins: int = 15, cutoff: float = 0.9) -> dict[str, float]:
    """The metrics of `zoo.evaluation.metrics.summarize`, textbook."""
    n = len(y)
    guess = [int(np.argmax(row)) for row in p]
    confidence = [max(row) for row in p]
    right = [g == t for g, t in zip(guess, y, strict=True)]
    certain = [c > cutoff for c in confidence]
    wrong = [i for i in range(n) if not right[i]]
    ece = ecse = 0.0
    for b in range(bins):
        inside = [i for i in range(n) if b / bins < confidence[i] <= (b + 1) / bins]
        if inside:
            gap = sum(confidence[i] for i in inside) - sum(right[i] for i in inside)
            ece, ecse = ece + abs(gap) / n, ecse + gap / n
    top5 = sum(sorted(range(len(row)), key=lambda c, row=row: -row[c])[:5].count(int(t)) == 1
               for row, t in zip(p, y, strict=True))  # fmt: skip
    return {
        "acc1": sum(right) / n,
        "acc5": top5 / n,
        "acc90": _share([right[i] for i in range(n) if certain[i]]),
        "nll": -sum(math.log(row[t]) for row, t in zip(p, y, strict=True)) / n,
        "brier": sum(
            (float(c == t) - row[c]) ** 2
            for row, t in zip(p, y, strict=True)
            for c in range(len(row))
        )
        / n,
        "ece": ece,
        "ecse": ecse,
        "iou": _iou(range(n), guess, y, p.shape[1]),
        "iou90": _iou([i for i in range(n) if certain[i]], guess, y, p.shape[1]),
        "frequency90": _share(certain),
        "unconfidence": _share([not certain[i] for i in wrong]),
    }


def _share(flags: list[bool]) -> float:
    return sum(flags) / len(flags) if flags else math.nan


def _iou(chosen: Any, guess: list[int], y: Array, classes: int) -> float:
    found = []
    for c in range(classes):
        targets = {i for i in chosen if y[i] == c}
        guesses = {i for i in chosen if guess[i] == c}
        if targets | guesses:
            found.append(len(targets & guesses) / len(targets | guesses))
    return sum(found) / len(found) if found else math.nan
