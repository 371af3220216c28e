"""What costs seconds and every training should beat: the commonest class, and plain classifiers on
the pixels themselves.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..catalog.weights_records import InputSpec
from ..data.opening import parse_spec
from ..data.preprocessing import preprocess
from ..evaluation.evaluate import Accuracy
from .batches import Images
from .plan import Array

SIDE = 28  # pixels a side that the classifiers see
MOST = 4_000  # images that they learn from, evenly spread; a quarter as many to measure them
_NEIGHBOURS = 5
_PIXELS = InputSpec(size=(SIDE, SIDE), mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0)


@dataclass(frozen=True)
class Baseline:
    """Accuracy on validation images of what needs no network.

    Args:
        name: "majority class", "logistic regression on pixels" or "5 nearest neighbours on pixels".
        validation: of the best of them.
    """

    name: str
    validation: Accuracy

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"name": self.name, "validation": self.validation.to_dict()}

    def summary(self) -> str:
        """One line."""
        return f"baseline to beat: {self.name}, validation {self.validation.percent:.1f} %"


def measure_baseline(training: Images, validation: Images) -> Baseline:
    """The best of three baselines by validation accuracy; the first alone without scikit-learn."""
    seen = _spread(len(training), MOST)
    measured = _spread(len(validation), MOST // 4)
    targets, wanted = training.targets[seen], validation.targets[measured]
    commonest = int(np.bincount(targets).argmax())
    best = Baseline("majority class", _accuracy(wanted == commonest))
    with contextlib.suppress(ImportError):
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier
        from threadpoolctl import threadpool_limits

        x, z = _pixels(training, seen), _pixels(validation, measured)
        candidates = (
            ("logistic regression on pixels", LogisticRegression(C=0.1, max_iter=100)),
            (
                f"{_NEIGHBOURS} nearest neighbours on pixels",
                KNeighborsClassifier(min(_NEIGHBOURS, len(seen))),
            ),
        )
        for name, classifier in candidates:
            with threadpool_limits(1), warnings.catch_warnings():  # so small that more threads wait
                warnings.simplefilter("ignore")  # not converged to the last digit is good enough
                answers = classifier.fit(x, targets).predict(z)
            found = Baseline(name, _accuracy(answers == wanted))
            if found.validation.correct > best.validation.correct:
                best = found
    return best


def baseline_of(data: str, parts: Callable[[str], Images | None]) -> Baseline | None:
    """The baseline of a folder; None for other data, whose numbers are known.

    Args:
        data: what `zoo.data.open_dataset` takes.
        parts: part -> images.
    """
    if parse_spec(data)[0] != "folder":
        return None
    training, validation = parts("train"), parts("validation")
    if training is None or validation is None:
        return None
    return measure_baseline(training, validation)


def _spread(count: int, most: int) -> Array:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _pixels(images: Images, places: Array) -> Array:
    """(n, 3 * 28 * 28) in [-1, 1]."""
    rows = [preprocess(images[int(place)][0], _PIXELS).ravel() for place in places]
    return np.stack(rows)


def _accuracy(right: Array) -> Accuracy:
    return Accuracy(int(right.sum()), len(right))
