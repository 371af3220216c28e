"""Metrics of how-do-vits-work: ops/tests.py and ops/meters.py, recipes of the golden cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.goldens import fill
from zoo.evaluation.metrics import (
    CUTOFF,
    CutoffCounts,
    at_cutoff,
    calibration_errors,
    class_accuracies,
    confusion_matrix,
    cutoff_counts,
    frequency,
    mean_iou,
    reliability,
    running_mean,
    summarize,
    unconfidence,
)
from zoo.evaluation.outcomes import Outcomes, brier_per_image, in_top, judge

TARGETS: dict[str, Any] = {}  # these cases name recipes, not constructors
_THEIRS = "how-do-vits-work"


def run(case: dict[str, Any], folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """Named outputs of a case."""
    found = {"metrics": _metrics, "metric_functions": _functions}[case["recipe"]](case, dtype)
    return {name: torch.as_tensor(np.asarray(value)) for name, value in found.items()}


def _metrics(case: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """The original's `test` on random logits."""
    shape, seed = [case["samples"], case["num_classes"]], case["seed"]
    logits = fill.make_input(shape, seed, case["scale"], "logits")
    targets = (logits + fill.make_input(shape, seed, case["noise"], "noise")).argmax(-1)
    probabilities = torch.from_numpy(logits).to(dtype).softmax(-1).numpy()
    parts = np.split(np.arange(case["samples"]), np.cumsum(case["batches"])[:-1])
    smoothing = case.get("smoothing", 0.0)
    outcomes = Outcomes.join(
        [judge(probabilities[part], targets[part], _THEIRS, smoothing) for part in parts]
    )
    count = case.get("bins")
    cutoffs = case.get("cutoffs", [0.0, CUTOFF])
    found = summarize(outcomes, _THEIRS, bins=count)
    bins = reliability(outcomes, _THEIRS, count)
    above = [at_cutoff(outcomes, cutoff, _THEIRS) for cutoff in cutoffs]
    matrices = [
        [confusion_matrix(outcomes, t, 1.0), confusion_matrix(outcomes, 0.0, t)] for t in cutoffs
    ]
    return {
        "nll": found["nll"],
        "cutoffs": cutoffs,
        "bins": bins.edges,
        "cms": np.asarray(matrices, dtype=np.float64),
        "acc": [row["acc"] for row in above],
        "unconfidence": [row["unconfidence"] for row in above],
        "iou": [row["iou"] for row in above],
        "freq": [row["frequency"] for row in above],
        "top5": found["acc5"],
        "brier": found["brier"],
        "count_bin": bins.counts,
        "acc_bin": bins.accuracy,
        "conf_bin": bins.confidence,
        "ece": found["ece"],
        "ecse": found["ecse"],
    }


def _functions(case: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """The original's single functions on a small table."""
    p = torch.tensor(case["probs"], dtype=dtype).numpy()
    y = np.asarray(case["labels"])
    found: dict[str, Any] = {
        "brier": brier_per_image(p, y),
        "topk1": in_top(p, y, 1, _THEIRS).astype(float),
        "topk2": in_top(p, y, 2, _THEIRS).astype(float),
    }
    outcomes = judge(p, y, _THEIRS)
    for low, high in case["filters"]:
        matrix = confusion_matrix(outcomes, low, high)
        counts = CutoffCounts(np.diag(matrix), matrix.sum(1), matrix.sum(0), 0, 0)
        mean, each = mean_iou(counts.diagonal, counts.rows, counts.columns, _THEIRS)
        key = f"[{low:g},{high:g}]"
        found |= {
            f"cm{key}": matrix.astype(float),
            f"ious{key}": each,
            f"miou{key}": mean,
            f"gacc{key}": counts.accuracy(_THEIRS),
            f"caccs{key}": class_accuracies(matrix, _THEIRS),
        }
    certain = cutoff_counts(outcomes, case["cutoff"])
    found["unconfidence"] = unconfidence(certain.wrong, certain.rest_wrong, _THEIRS)
    found["frequency"] = frequency(certain.images, certain.rest, _THEIRS)
    bins = (np.asarray(case[name]) for name in ("count_bin", "acc_bin", "conf_bin"))
    found["ece"], found["ecse"] = calibration_errors(*bins, _THEIRS)
    seen: list[float] = []
    found["meter"] = []
    for value in case["meter"]:
        seen += np.atleast_1d(value).tolist()
        found["meter"].append([*running_mean(np.asarray(seen)), len(seen)])
    return found
