"""Accuracy, calibration and confusion of any function from images to logits, streaming."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.dataset import align_labels, check_width
from ..errors import ConfigError, DatasetError
from .answers import as_logits, softmax
from .checks import check_count, check_list, check_number
from .images import read_batches, update_digest
from .intervals import bootstrap, wilson
from .metrics import (
    CUTOFF,
    Reliability,
    at_cutoff,
    bin_count,
    class_accuracies,
    confusion_matrix,
    cutoff_counts,
    reliability,
    summarize,
)
from .outcomes import Outcomes, judge

if TYPE_CHECKING:
    from ..data.dataset import ImageDataset
    from .batch.labelled import LabelledImages


Array = np.ndarray[Any, Any]
Logits = Callable[[Sequence[Array]], Array]

# Name in `summarize` -> (name in JSON, factor): shares of images are in percent there.
_JSON_NAMES = {
    "acc1": ("acc1_percent", 100.0),
    "acc5": ("acc5_percent", 100.0),
    "acc90": ("acc90_percent", 100.0),
    "frequency90": ("frequency90_percent", 100.0),
    "unconfidence": ("unconfidence_percent", 100.0),
}


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
        """Wilson score interval of 95 %, in percent."""
        low, high = wilson(self.correct, self.total)
        return 100 * low, 100 * high

    def to_dict(self) -> dict[str, Any]:
        """JSON values, rounded to what the counts support."""
        return {
            "correct": self.correct,
            "total": self.total,
            "acc1_percent": round(self.percent, 3),
            "interval95_percent": [round(bound, 3) for bound in self.interval_percent],
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model did with a data set.

    Args:
        dataset: its name.
        labels: class names in the order of the logits.
        outcomes: of every image that could be read.
        definition: of the metrics, "textbook" or "how-do-vits-work".
        values: metric -> value, see `zoo.evaluation.metrics.summarize`; NaN where undefined.
        intervals: metric -> 95 % interval, for those that have one.
        skipped: images that could not be read.
        data_sha256: of class names, pixels and class numbers, in order.
        bins, cutoffs: see `evaluate`.
    """

    dataset: str
    labels: tuple[str, ...]
    outcomes: Outcomes
    definition: str
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    skipped: tuple[str, ...]
    data_sha256: str
    bins: int | None = None
    cutoffs: tuple[float, ...] = ()

    @property
    def accuracy(self) -> Accuracy:
        """Top-1."""
        return Accuracy(int(self.outcomes.correct.sum()), len(self.outcomes))

    @property
    def confusion(self) -> Array:
        """Counts of (target, prediction), int64 (C, C)."""
        return confusion_matrix(self.outcomes)

    @property
    def reliability(self) -> Reliability:
        """Points of the reliability diagram."""
        return reliability(self.outcomes, self.definition, self.bins)

    def classes(self) -> list[dict[str, Any]]:
        """Accuracy of each class that occurs: label, acc1_percent, and `Accuracy.to_dict`."""
        matrix = self.confusion
        shares = class_accuracies(matrix, self.definition)
        rows = []
        for number in np.flatnonzero(matrix.sum(-1)):
            found = Accuracy(int(matrix[number, number]), int(matrix[number].sum()))
            row = {"label": self.labels[number], **found.to_dict()}
            rows.append({**row, "acc1_percent": round(100 * float(shares[number]), 3)})
        return rows

    def to_dict(self) -> dict[str, Any]:
        """JSON values; a metric that is undefined is null. The confusion matrix is given up to 100
        classes.
        """
        return {
            **self.accuracy.to_dict(),
            "definition": self.definition,
            "metrics": {json_name(name): self._metric(name) for name in self.values},
            **({"cutoffs": self.at_cutoffs()} if self.cutoffs else {}),
            "classes": self.classes(),
            "reliability": self.reliability.to_dict(),
            "confusion_matrix": self.confusion.tolist() if len(self.labels) <= 100 else None,
            "skipped": list(self.skipped),
            "data_sha256": self.data_sha256,
        }

    def at_cutoffs(self) -> list[dict[str, float | None]]:
        """`metrics.at_cutoff` for each of the cutoffs; null where undefined."""
        rows = [at_cutoff(self.outcomes, cutoff, self.definition) for cutoff in self.cutoffs]
        return [
            {name: round(v, 6) if math.isfinite(v) else None for name, v in row.items()}
            for row in rows
        ]

    def _metric(self, name: str) -> dict[str, Any]:
        factor = _JSON_NAMES.get(name, ("", 1.0))[1]
        value, interval = self.values[name], self.intervals.get(name)
        return {
            "value": round(factor * value, 6) if math.isfinite(value) else None,
            "interval95": [round(factor * bound, 6) for bound in interval] if interval else None,
        }


def json_name(metric: str) -> str:
    """A metric's name in JSON, with its unit."""
    return _JSON_NAMES.get(metric, (metric, 1.0))[0]


def evaluate(
    logits: Logits,
    dataset: ImageDataset | LabelledImages,
    *,
    labels: Sequence[str] = (),
    definition: str = "textbook",
    batch_size: int = 32,
    on_unreadable: str = "stop",
    resamples: int = 1000,
    bins: int | None = None,
    cutoffs: Sequence[float] = (),
    on_batch: Callable[[int], None] = lambda images: None,
) -> Evaluation:
    """Run `logits` over a data set, a batch at a time; 49 bytes are kept of each image.

    Args:
        logits: a list of uint8 images (H, W, 3) -> array, tensor or lists (B, C), e.g.
            `Predictor.logits`.
        dataset: `open_dataset`'s, or `open_labelled`'s, which is read in one pass.
        labels: class names of the logits. Where they are the data's in another order, classes are
            matched by name; empty means the data's order.
        definition: "textbook" or "how-do-vits-work", whose NLL depends on the batches.
        on_unreadable: "stop" raises at the first unreadable image; "skip" counts them.
        resamples: of the bootstrap, for the metrics that are no share of a count; 0 leaves their
            intervals out.
        bins: of the calibration errors and the diagram, at most 1000; None: 15,
            "how-do-vits-work": 10.
        cutoffs: further confidences in [0, 1) above which a prediction counts as certain.
        on_batch: called with the number of images done in each batch.
    Raises: DatasetError if classes do not fit or no image can be read; ImageError and its like;
        InputError for logits that are not finite; ConfigError for settings that mean nothing.
    """
    _check_given(logits, dataset)
    bin_count(bins, definition)
    cutoffs = _checked_cutoffs(cutoffs)
    check_count("batch_size", batch_size)
    check_count("resamples", resamples, 0)
    names, mapping = align_labels(check_list("labels", labels), dataset.labels, dataset.name)
    digest = hashlib.sha256(json.dumps(dataset.labels).encode())
    skipped = list(dataset.skipped)
    parts = []
    for size, images, targets in read_batches(dataset, batch_size, on_unreadable, skipped):
        if images:
            update_digest(digest, images, targets)
            found = as_logits(logits(images), images, "the function from images to logits")
            check_width(found.shape[-1], len(names), dataset.name)
            parts.append(judge(softmax(found), mapping[targets], definition))
        on_batch(size)
    if not parts:
        raise DatasetError(
            f"none of the {len(skipped)} images of {dataset.name} can be read; check the files, or "
            'pass on_unreadable="stop" to see the first error',
            code="no_images",
        )
    outcomes = Outcomes.join(parts)
    values = summarize(outcomes, definition, bins=bins)
    intervals = _intervals(outcomes, definition, resamples, bins)
    return Evaluation(
        dataset.name, names, outcomes, definition, values, intervals, tuple(skipped),
        digest.hexdigest(), bins, cutoffs,
    )  # fmt: skip


def _check_given(logits: Logits, dataset: ImageDataset | LabelledImages) -> None:
    """Raise for what is neither: a model, a predictor, the name of a data set."""
    if not callable(logits) or hasattr(logits, "logits") or hasattr(logits, "named_modules"):
        raise ConfigError(
            "evaluate takes a function from images to logits; got "
            f"{type(logits).__name__}: pass zoo.Predictor.from_model(model).logits"
        )
    if not hasattr(dataset, "skipped"):
        shown = repr(dataset) if isinstance(dataset, str) else type(dataset).__name__
        raise DatasetError(
            f"evaluate takes a data set that is open; got {shown[:80]}: pass "
            'zoo.open_dataset("digits", "test")'
        )


def _checked_cutoffs(cutoffs: Sequence[float]) -> tuple[float, ...]:
    found = tuple(check_number("cutoffs", cutoff) for cutoff in check_list("cutoffs", cutoffs))
    if not all(0 <= cutoff < 1 for cutoff in found):
        raise ConfigError(f"cutoffs must be in [0, 1); got {', '.join(map(str, found))}")
    return found


def _intervals(
    outcomes: Outcomes, definition: str, resamples: int, bins: int | None
) -> dict[str, tuple[float, float]]:
    """Wilson intervals for shares of a count; the bootstrap over images for the other metrics."""
    found = bootstrap(
        lambda weights: summarize(outcomes, definition, weights, bins), len(outcomes), resamples
    )
    certain = cutoff_counts(outcomes, CUTOFF)
    total = len(outcomes)
    shares = {
        "acc1": (float(outcomes.correct.sum()), total),
        "acc5": (float(outcomes.in_top5.sum()), total),
        "acc90": (certain.right, certain.images),
        "frequency90": (certain.images, total),
        "unconfidence": (certain.rest_wrong, certain.wrong + certain.rest_wrong),
    }
    for name, (part, whole) in shares.items():
        found.pop(name, None)
        if whole:
            found[name] = wilson(part, whole)
    return found
