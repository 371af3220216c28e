"""Accuracy on 15 corruptions x 5 severities, and its mean over the 75 sets.

The protocol of how-do-vits-work: the mean of the accuracies, not the mCE of Hendrycks and
Dietterich (arXiv:1903.12261), which divides by AlexNet's errors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DatasetError
from .checks import check_count
from .evaluate import Evaluation, Logits, evaluate
from .intervals import bootstrap

if TYPE_CHECKING:
    from ..data.dataset import ImageDataset


Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class CorruptedSet:
    """One corruption at one severity."""

    corruption: str
    severity: int
    result: dict[str, Any]

    @property
    def percent(self) -> float:
        """Top-1 accuracy."""
        return float(self.result["acc1_percent"])


@dataclass(frozen=True)
class CorruptionEvaluation:
    """All sets, and the mean of their accuracies.

    Args:
        rows: in the order in which they were evaluated.
        mean_percent: mean of the accuracies of the sets.
        interval95_percent: of the mean, by the bootstrap over images, which every set shows in the
            same order; None where sets hold different images.
        data_sha256: of the digests of the sets.
    """

    rows: tuple[CorruptedSet, ...]
    mean_percent: float
    interval95_percent: tuple[float, float] | None
    data_sha256: str

    def table(self) -> dict[str, dict[int, float]]:
        """Corruption -> severity -> accuracy in percent."""
        found: dict[str, dict[int, float]] = {}
        for row in self.rows:
            found.setdefault(row.corruption, {})[row.severity] = row.percent
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        interval = self.interval95_percent
        return {
            "sets": len(self.rows),
            "mean_acc1_percent": round(self.mean_percent, 3),
            "interval95_percent": [round(bound, 3) for bound in interval] if interval else None,
            "rows": [
                {"corruption": row.corruption, "severity": row.severity, **row.result}
                for row in self.rows
            ],
            "data_sha256": self.data_sha256,
        }


def evaluate_corruptions(
    logits: Logits,
    sets: Iterable[tuple[str, int, ImageDataset]],
    *,
    labels: Sequence[str] = (),
    definition: str = "textbook",
    batch_size: int = 32,
    on_unreadable: str = "stop",
    resamples: int = 1000,
    on_set: Callable[[str, int, Evaluation], None] = lambda corruption, severity, found: None,
) -> CorruptionEvaluation:
    """Evaluate set after set, as `zoo.data.corruptions.open_corruptions` yields them, one at a
    time in memory.

    Args:
        on_set: called with each result. The others: see `zoo.evaluation.evaluate`.
    Raises: as `evaluate`; DatasetError for no sets.
    """
    check_count("resamples", resamples, 0)
    rows: list[CorruptedSet] = []
    total: Array | None = None  # in how many sets each image was recognised
    targets: Array | None = None
    comparable = True
    digest = hashlib.sha256()
    for corruption, severity, dataset in sets:
        found = evaluate(
            logits, dataset, labels=labels, definition=definition, batch_size=batch_size,
            on_unreadable=on_unreadable, resamples=0,
        )  # fmt: skip
        if total is None or targets is None:
            total, targets = found.outcomes.correct.astype(np.float64), found.outcomes.targets
        elif comparable and np.array_equal(targets, found.outcomes.targets):
            total = total + found.outcomes.correct
        else:
            comparable = False
        digest.update(found.data_sha256.encode())
        rows.append(CorruptedSet(corruption, severity, _brief(found)))
        on_set(corruption, severity, found)
    if total is None:
        raise DatasetError("no corrupted sets were given; pass at least one", code="no_images")
    mean = sum(row.percent for row in rows) / len(rows)
    interval = _interval(100 * total / len(rows), resamples) if comparable else None
    return CorruptionEvaluation(tuple(rows), mean, interval, digest.hexdigest())


def _brief(found: Evaluation) -> dict[str, Any]:
    metrics = {name: round(found.values[name], 6) for name in ("nll", "ece")}
    return {**found.accuracy.to_dict(), **metrics, "skipped": len(found.skipped)}


def _interval(percent: Array, resamples: int) -> tuple[float, float] | None:
    """Of the mean of one value per image, the share of the sets in which it was recognised."""
    found = bootstrap(
        lambda weights: {"mean": float(weights @ percent / weights.sum())}, len(percent), resamples
    )
    return found.get("mean")
