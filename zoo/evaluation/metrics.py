"""Classification metrics from probabilities: accuracy, calibration, overlap, and how sure the model
is of its errors.

Two definitions of each. "textbook": Brier 1950, Guo et al. 2017 (arXiv:1706.04599) and the plain
counts; what has no cases is undefined (NaN). "how-do-vits-work": what `ops/tests.py` and
`ops/meters.py` of xxxnell/how-do-vits-work compute, with their rules for edges, empty sets and an
epsilon of 1e-7 in denominators. docs/evaluation.md has the formulas side by side.

Metrics are computed from `zoo.evaluation.outcomes`, so that the probabilities of a large data
set are never in memory at once; `measure` takes the probabilities of a small one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .checks import check_count
from .outcomes import Outcomes, check_definition, is_textbook, judge

Array = np.ndarray[Any, Any]
CUTOFF = 0.9  # a prediction is certain if its confidence exceeds this
BINS = {"textbook": 15, "how-do-vits-work": 10}
MAX_BINS = 1000  # finer ones hold no images, and each costs memory
_EPS = 1e-7


def confusion_matrix(outcomes: Outcomes, low: float = 0.0, high: float = 1.0) -> Array:
    """Counts of (target, prediction) over images with low < confidence <= high, int64 (C, C)."""
    chosen = (outcomes.confidences > low) & (outcomes.confidences <= high)
    size = outcomes.num_classes
    cells = outcomes.targets[chosen] * size + outcomes.predictions[chosen]
    return np.bincount(cells, minlength=size * size).reshape(size, size)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Points of a reliability diagram, one per bin of confidence.

    Args:
        edges: of the bins, (bins + 1,).
        counts: images per bin, (bins,).
        accuracy, confidence: means over the bin; 0 where it is empty.
    """

    edges: Array
    counts: Array
    accuracy: Array
    confidence: Array

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "edges": np.round(self.edges, 6).tolist(),
            "counts": [int(count) for count in self.counts],
            "accuracy": np.round(self.accuracy, 6).tolist(),
            "confidence": np.round(self.confidence, 6).tolist(),
        }


def bin_count(bins: int | None, definition: str) -> int:
    """`bins`, or where it is None that of the definition. Raises: ConfigError."""
    check_definition(definition)
    return BINS[definition] if bins is None else check_count("bins", bins, 1, MAX_BINS)


def reliability(
    outcomes: Outcomes,
    definition: str = "textbook",
    bins: int | None = None,
    weights: Array | None = None,
) -> Reliability:
    """Accuracy and mean confidence per bin.

    Bins are (start, end]. "how-do-vits-work" counts so too, but sums confidences over [start, end):
    on an inner edge the value goes to the upper bin, and a confidence of 1 is summed nowhere.
    """
    bins = bin_count(bins, definition)
    weights = np.ones(len(outcomes)) if weights is None else weights
    edges = np.linspace(0.0, 1.0, bins + 1)
    upper = np.clip(np.searchsorted(edges, outcomes.confidences, side="left") - 1, 0, bins - 1)
    counts = np.bincount(upper, weights, bins)
    right = np.bincount(upper, weights * outcomes.correct, bins)
    if is_textbook(definition):
        total = np.bincount(upper, weights * outcomes.confidences, bins)
        confidence = np.divide(total, counts, out=np.zeros(bins), where=counts > 0)
    else:
        lower = np.searchsorted(edges, outcomes.confidences, side="right") - 1
        total = np.bincount(lower, weights * outcomes.confidences, bins + 1)[:bins]
        confidence = total / (counts + _EPS)
    accuracy = np.divide(right, counts, out=np.zeros(bins), where=counts > 0)
    return Reliability(edges, counts, accuracy, confidence)


def calibration_errors(
    counts: Array, accuracy: Array, confidence: Array, definition: str = "textbook"
) -> tuple[float, float]:
    """(ECE, ECSE): |confidence - accuracy| and its signed form, averaged over images by bin."""
    share = counts / (counts.sum() + (0.0 if is_textbook(definition) else _EPS))
    gap = confidence - accuracy
    return float((np.abs(gap) * share).sum()), float((gap * share).sum())


def mean_iou(
    diagonal: Array, rows: Array, columns: Array, definition: str = "textbook"
) -> tuple[float, Array]:
    """Intersection over union: mean over classes, and each class.

    Args:
        diagonal: correct images per class, (C,).
        rows, columns: images per target and per prediction, (C,).
    The mean runs over classes that occur as target or prediction; "how-do-vits-work": as target.
    Without any it is NaN; "how-do-vits-work": 0.
    """
    union = rows + columns - diagonal
    each = np.divide(diagonal, union, out=np.zeros(len(union)), where=union > 0)
    occurs = union > 0 if is_textbook(definition) else rows > 0
    empty = float("nan") if is_textbook(definition) else 0.0
    return (float(each[occurs].mean()) if occurs.any() else empty), each


def class_accuracies(matrix: Array, definition: str = "textbook") -> Array:
    """Share of each class that is recognised, (C,). A class without images: NaN;
    "how-do-vits-work": 0.
    """
    rows, right = matrix.sum(-1).astype(np.float64), np.diag(matrix)
    found: Array = right / (rows + _EPS)
    if is_textbook(definition):
        found = np.divide(right, rows, out=np.full(len(rows), np.nan), where=rows > 0)
    return found


def unconfidence(
    wrong_certain: float, wrong_uncertain: float, definition: str = "textbook"
) -> float:
    """Share of the wrong predictions of which the model was uncertain."""
    return _ratio(wrong_uncertain, wrong_certain + wrong_uncertain, definition)


def frequency(certain: float, uncertain: float, definition: str = "textbook") -> float:
    """Share of the predictions that are certain."""
    return _ratio(certain, certain + uncertain, definition)


def _ratio(part: float, whole: float, definition: str) -> float:
    if not is_textbook(definition):
        return float(part / (whole + _EPS))
    return float(part / whole) if whole else float("nan")


def summarize(
    outcomes: Outcomes,
    definition: str = "textbook",
    weights: Array | None = None,
    bins: int | None = None,
) -> dict[str, float]:
    """All metrics, as shares and means; NaN where undefined.

    Args:
        bins: of the calibration errors; None: `BINS` of the definition.
        weights: of the images (n,), as the bootstrap draws them; None weighs all equally.
    Returns: acc1, acc5, acc90, nll, brier, ece, ecse, iou, iou90, frequency90, unconfidence.
    """
    w = np.ones(len(outcomes)) if weights is None else weights
    at = reliability(outcomes, definition, bins, w)
    ece, ecse = calibration_errors(at.counts, at.accuracy, at.confidence, definition)
    everything, certain = cutoff_counts(outcomes, 0.0, w), cutoff_counts(outcomes, CUTOFF, w)
    return {
        "acc1": everything.accuracy(definition),
        "acc5": _ratio((w * outcomes.in_top5).sum(), w.sum(), definition),
        "acc90": certain.accuracy(definition),
        "nll": _mean_nll(outcomes, w, definition),
        "brier": _ratio((w * outcomes.brier).sum(), w.sum(), definition),
        "ece": ece,
        "ecse": ecse,
        "iou": everything.iou(definition),
        "iou90": certain.iou(definition),
        "frequency90": frequency(certain.images, certain.rest, definition),
        "unconfidence": unconfidence(certain.wrong, certain.rest_wrong, definition),
    }


def at_cutoff(outcomes: Outcomes, cutoff: float, definition: str = "textbook") -> dict[str, float]:
    """What depends on how certain is certain: cutoff, acc, iou, frequency, unconfidence."""
    counts = cutoff_counts(outcomes, cutoff)
    return {
        "cutoff": cutoff,
        "acc": counts.accuracy(definition),
        "iou": counts.iou(definition),
        "frequency": frequency(counts.images, counts.rest, definition),
        "unconfidence": unconfidence(counts.wrong, counts.rest_wrong, definition),
    }


def measure(probabilities: Array, targets: Array, definition: str = "textbook") -> dict[str, float]:
    """`summarize` for probabilities (n, C) and class numbers (n,) in memory, as one batch.

    Raises: ConfigError, InputError.
    """
    return summarize(judge(probabilities, targets, definition), definition)


def running_mean(values: Array) -> tuple[float, float]:
    """Mean and deviation as how-do-vits-work's meters take them: over a count of n + 1e-7, and 0
    for a variance that rounding makes negative.
    """
    count = np.size(values) + _EPS
    mean = float(np.sum(values) / count)
    variance = float(np.square(values).sum() / count) - mean * mean
    return mean, max(variance, 0.0) ** 0.5


def _mean_nll(outcomes: Outcomes, weights: Array, definition: str) -> float:
    """Mean over images; "how-do-vits-work": over batches, each with its own mean."""
    if is_textbook(definition):
        return float((weights * outcomes.nll).sum() / weights.sum())
    size = np.bincount(outcomes.batches, weights)
    total = np.bincount(outcomes.batches, weights * outcomes.nll)
    return running_mean(total[size > 0] / size[size > 0])[0]


@dataclass(frozen=True, eq=False)
class CutoffCounts:
    """(Weighted) counts of the images with a confidence above a cutoff, and of the rest.

    Args:
        diagonal, rows, columns: of the confusion matrix of the images above, (C,).
        rest, rest_wrong: images at or below the cutoff, and the wrong ones of them.
    """

    diagonal: Array
    rows: Array
    columns: Array
    rest: float
    rest_wrong: float

    @property
    def images(self) -> float:
        """Images above the cutoff."""
        return float(self.rows.sum())

    @property
    def right(self) -> float:
        """The right ones of them."""
        return float(self.diagonal.sum())

    @property
    def wrong(self) -> float:
        """The wrong ones of them."""
        return self.images - self.right

    def accuracy(self, definition: str) -> float:
        """Share of right ones above the cutoff; none: NaN, "how-do-vits-work": 0."""
        if self.images:
            return self.right / self.images
        return float("nan") if is_textbook(definition) else 0.0

    def iou(self, definition: str) -> float:
        """See `mean_iou`."""
        return mean_iou(self.diagonal, self.rows, self.columns, definition)[0]


def cutoff_counts(outcomes: Outcomes, cutoff: float, weights: Array | None = None) -> CutoffCounts:
    """Counts above a cutoff of the confidence: cutoff < c <= 1, as in `confusion_matrix`."""
    w = np.ones(len(outcomes)) if weights is None else weights
    above = w * ((outcomes.confidences > cutoff) & (outcomes.confidences <= 1.0))
    below = w * ((outcomes.confidences > 0.0) & (outcomes.confidences <= cutoff))
    size = outcomes.num_classes
    return CutoffCounts(
        np.bincount(outcomes.targets, above * outcomes.correct, size),
        np.bincount(outcomes.targets, above, size),
        np.bincount(outcomes.predictions, above, size),
        float(below.sum()),
        float((below * ~outcomes.correct).sum()),
    )
