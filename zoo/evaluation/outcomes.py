"""What is kept of each classified image: enough for every metric, 49 bytes instead of all its
probabilities.

Where two definitions differ, "textbook" is the plain one and "how-do-vits-work" the one of
`ops/tests.py` in xxxnell/how-do-vits-work; see docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from .checks import check_choice

Array = np.ndarray[Any, Any]
DEFINITIONS = ("textbook", "how-do-vits-work")
_TINY = float(np.finfo(np.float64).tiny)


def check_definition(definition: str) -> None:
    """Raises: ConfigError unless it is one of `DEFINITIONS`."""
    check_choice("definition", definition, DEFINITIONS)


def is_textbook(definition: str) -> bool:
    """Which of the two it is. Raises: ConfigError, as `check_definition`."""
    check_definition(definition)
    return definition == DEFINITIONS[0]


def nll_per_image(
    probabilities: Array, targets: Array, definition: str = "textbook", smoothing: float = 0.0
) -> Array:
    """Negative log-likelihood of each image, (n,).

    Args:
        probabilities: (n, C).
        targets: class numbers (n,), or probabilities (n, C).
        definition: "textbook" bounds probabilities below by 2.2e-308; "how-do-vits-work" applies
            the log-softmax of a cross entropy to log p.
        smoothing: s of ``(1 - s) * nll + s * mean over classes of -log p``.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if is_textbook(definition):
        logs = np.log(np.maximum(p, _TINY))
    else:
        with np.errstate(divide="ignore"):
            logs = np.log(p) - np.log(p.sum(-1, keepdims=True))
    if targets.ndim == 2:
        soft: Array = -(np.asarray(targets) * logs).sum(-1)
        return soft
    hard: Array = -logs[np.arange(len(p)), targets]
    return hard if not smoothing else (1 - smoothing) * hard - smoothing * logs.mean(-1)


def brier_per_image(probabilities: Array, targets: Array) -> Array:
    """Sum over classes of (one-hot - p)^2, between 0 and 2, (n,)."""
    p = np.asarray(probabilities, dtype=np.float64)
    found: Array = np.square(np.eye(p.shape[-1])[targets] - p).sum(-1)
    return found


def in_top(probabilities: Array, targets: Array, k: int, definition: str = "textbook") -> Array:
    """Whether the target is among the k most probable classes, bool (n,). Among equals, "textbook"
    prefers the lower class number; "how-do-vits-work" takes the last k of argsort.
    """
    if is_textbook(definition):
        own = np.take_along_axis(probabilities, targets[:, None], axis=-1)
        earlier = np.arange(probabilities.shape[-1]) < targets[:, None]
        rank = ((probabilities > own) | ((probabilities == own) & earlier)).sum(-1)
        found: Array = rank < k
    else:
        best = np.argsort(probabilities, axis=-1)[:, -k:]
        found = (best == targets[:, None]).any(-1)
    return found


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What is kept of each image.

    Args:
        num_classes: C.
        targets, predictions: class numbers, int64 (n,); the prediction is the first argmax.
        confidences: largest probability, float64 (n,).
        nll, brier: float64 (n,).
        in_top5: bool (n,).
        batches: number of the batch that an image came in, int64 (n,).
    """

    num_classes: int
    targets: Array
    predictions: Array
    confidences: Array
    nll: Array
    brier: Array
    in_top5: Array
    batches: Array

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def correct(self) -> Array:
        """Bool (n,)."""
        found: Array = self.predictions == self.targets
        return found

    @classmethod
    def join(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """One after the other; every part is a batch of its own."""
        names = ("targets", "predictions", "confidences", "nll", "brier", "in_top5")
        columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
        batches = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        return cls(parts[0].num_classes, **columns, batches=batches)


def judge(
    probabilities: Array, targets: Array, definition: str = "textbook", smoothing: float = 0.0
) -> Outcomes:
    """The outcomes of one batch.

    Args:
        probabilities: (n, C), rows that sum to 1.
        targets: class numbers (n,), below C.
        definition, smoothing: see `nll_per_image`.
    Raises: InputError for other shapes, or values that are no probabilities.
    """
    check_definition(definition)
    probabilities, targets = np.asarray(probabilities), np.asarray(targets)
    if probabilities.ndim != 2 or targets.shape != probabilities.shape[:1]:
        raise InputError(
            "expected probabilities (n, classes) and class numbers (n,); got "
            f"{probabilities.shape} and {targets.shape}"
        )
    if targets.dtype.kind not in "iu":
        raise InputError(f"class numbers are whole numbers; got {targets.dtype}")
    if len(targets) and not 0 <= targets.min() <= targets.max() < probabilities.shape[1]:
        raise InputError(
            f"class numbers reach from {targets.min()} to {targets.max()}; expected 0 to "
            f"{probabilities.shape[1] - 1}"
        )
    p = np.asarray(probabilities, dtype=np.float64)
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(-1), 1, atol=1e-4)):
        raise InputError(
            "expected rows of probabilities that sum to 1; got NaN, negative values or another "
            "sum (take the softmax of logits first)",
            code="not_probabilities",
        )
    return Outcomes(
        p.shape[1],
        targets.astype(np.int64),
        p.argmax(-1),
        np.minimum(p.max(-1), 1.0) if is_textbook(definition) else p.max(-1),
        nll_per_image(p, targets, definition, smoothing),
        brier_per_image(p, targets),
        in_top(p, targets, 5, definition),
        np.zeros(len(p), dtype=np.int64),
    )
