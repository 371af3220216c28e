"""Answers and what is right, looked at before anything is counted: shapes, numbers, classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import AnalysisError


def read_targets(targets: Any, images: int, soft: bool = False) -> Tensor:
    """Class numbers as int64 (B,), from whole numbers of any kind: a tensor, an array, a list.

    Args: soft: take probabilities too, float (B, classes).
    Raises: AnalysisError (code "targets") for anything else, or another number of them.
    """
    try:
        found = targets if isinstance(targets, Tensor) else torch.tensor(np.asarray(targets))
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)
    mixed = soft and found.ndim == 2 and found.is_floating_point()
    whole = found.ndim == 1 and not (found.is_floating_point() or found.is_complex())
    if not (mixed or whole) or len(found) != images:
        kind = "class numbers (B,)" + (" or probabilities (B, classes)" if soft else "")
        what = f"{str(found.dtype).removeprefix('torch.')} {tuple(found.shape)}"
        raise AnalysisError(
            f"targets are {kind}, one for each image; got {what} for {images} images",
            code="targets",
        )
    return found if mixed else found.long()


def check_answers(
    logits: Any, targets: Any, soft: bool = False, finite: bool = True
) -> tuple[Tensor, Tensor]:
    """Logits (B, classes) and their targets, on one device.

    Args:
        logits: a tensor, whose graph is kept, or an array.
        targets, soft: see `read_targets`.
        finite: refuse NaN and infinity.
    Raises: AnalysisError for another shape or number, NaN (code "not_finite"), or classes that the
        model does not have (code "targets").
    """
    rows = logits if isinstance(logits, Tensor) else torch.tensor(np.asarray(logits))
    if rows.ndim != 2 or not rows.is_floating_point():
        raise AnalysisError(
            f"the model returns {str(rows.dtype).removeprefix('torch.')} {tuple(rows.shape)}; "
            "expected logits (B, classes) of floating-point numbers",
            code="not_logits",
        )
    right = read_targets(targets, len(rows), soft).to(rows.device)
    classes = rows.shape[1]
    if right.ndim == 2:
        if right.shape[1] != classes or not bool(((right >= 0) & right.isfinite()).all()):
            raise AnalysisError(
                f"probabilities for {right.shape[1]} classes, of a model with {classes}; expected "
                "as many, none of them negative or NaN",
                code="targets",
            )
    elif len(right) and not 0 <= int(right.min()) <= int(right.max()) < classes:
        raise AnalysisError(
            f"targets reach from {int(right.min())} to {int(right.max())}; the model has classes "
            f"0 to {classes - 1}: map them first",
            code="targets",
        )
    if finite and not bool(rows.isfinite().all()):
        raise AnalysisError(
            "the model returns NaN or infinity; check its weights and input", code="not_finite"
        )
    return rows, right.to(rows.dtype) if right.ndim == 2 else right


def are_right(logits: Any, targets: Any) -> Tensor:
    """Whether each image is classified correctly, bool (B,). Raises: as `check_answers`."""
    rows, right = check_answers(logits, targets)
    return (rows.argmax(-1) == right).cpu()


def check_classes(targets: Tensor) -> None:
    """Raise AnalysisError if all targets are of one class: accuracies would say nothing."""
    if len(targets) and bool((targets == targets[0]).all()):
        raise AnalysisError(
            f"all {len(targets)} images are of class {int(targets[0])}; an accuracy over one class "
            "says nothing about a classifier: use images of at least two",
            code="one_class",
        )
