"""Accuracy over 15 corruptions x 5 severities: the 75-row table, its mean, and mCE.

Hendrycks & Dietterich, *Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations*, arXiv:1903.12261. "Robustness" in Park & Kim, arXiv:2202.06709, is the mean of the
75 accuracies, not mCE.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AnalysisError
from ..evaluation.evaluate import Accuracy
from ._answers import are_right
from ._features import OnStep, ignore
from ._figure import INK, SERIES, legend_above, new_figure, save, tidy
from ._results import Result
from .noise import Logits

Array = np.ndarray[Any, Any]

DEFINITION = (
    "top-1 accuracy on every (corruption, severity); mean_percent is the plain mean of all of "
    "them. mCE: per corruption the error summed over severities, divided by that of the reference, "
    "mean over corruptions; reference: {reference}. {data}"
)
SEVERITIES = 5
# AlexNet's error on ImageNet-C, mean over severities, as published with the benchmark
# (github.com/hendrycks/robustness); mCE on ImageNet-C is relative to it.
ALEXNET_IMAGENET_C = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}


@dataclass(frozen=True)
class Reference:
    """A model's errors, corruption -> mean over severities, in [0, 1]."""

    name: str
    errors: Mapping[str, float]


@dataclass(frozen=True)
class CorruptedAccuracy:
    """One row of the table."""

    corruption: str
    severity: int
    accuracy: Accuracy


@dataclass(frozen=True)
class RobustnessResult(Result):
    """The table, and its summaries; `mce_percent` is None without a reference."""

    clean: Accuracy | None
    table: tuple[CorruptedAccuracy, ...]
    mean_percent: float
    mce_percent: float | None

    def by_corruption(self) -> dict[str, float]:
        """Mean accuracy over severities, in percent."""
        rows: dict[str, list[float]] = {}
        for row in self.table:
            rows.setdefault(row.corruption, []).append(row.accuracy.percent)
        return {name: sum(values) / len(values) for name, values in rows.items()}

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": self.model,
                "corruption": row.corruption,
                "severity": row.severity,
                "acc1_percent": row.accuracy.percent,
                "low": row.accuracy.interval_percent[0],
                "high": row.accuracy.interval_percent[1],
            }
            for row in self.table
        ]

    def plot(self, path: str | Path) -> None:

        plot_robustness([self], path)


def corruption_robustness(
    logits: Logits,
    sets: Iterable[tuple[str, int, Iterable[tuple[Array, Array]]]],
    clean: Accuracy | None = None,
    reference: Reference | None = None,
    data: str = "",
    name: str = "model",
    on_step: OnStep = ignore,
) -> RobustnessResult:
    """Accuracy on corrupted sets.

    Args:
        logits: float32 (B, C, H, W) -> (B, classes).
        sets: (corruption, severity, batches of preprocessed images and class numbers).
        clean: accuracy without corruption, for figures.
        reference: whose errors mCE is relative to; None leaves mCE out.
        on_step: called after every set with their number so far.
    Raises: AnalysisError for no sets, an empty one, a corruption without reference; as `lesion`.
    """
    table = []
    for corruption, severity, batches in sets:
        table.append(CorruptedAccuracy(corruption, severity, _measure(logits, batches, corruption)))
        on_step(len(table))
    if not table:
        raise AnalysisError("no corrupted sets; pass at least one", code="empty_loader")
    mean = sum(row.accuracy.percent for row in table) / len(table)
    text = DEFINITION.format(reference=reference.name if reference else "none", data=data).strip()
    mce = _mce(table, reference.errors) if reference else None
    return RobustnessResult(name, text, clean, tuple(table), mean, mce)


def _measure(logits: Logits, batches: Iterable[tuple[Array, Array]], what: str) -> Accuracy:
    correct = total = 0
    for images, targets in batches:
        right = are_right(logits(images), targets)
        correct, total = correct + int(right.sum()), total + len(right)
    if not total:
        raise AnalysisError(
            f"the set of {what} is empty; leave it out, or pass its images", code="empty_loader"
        )
    return Accuracy(correct, total)


def _mce(table: list[CorruptedAccuracy], reference_errors: Mapping[str, float]) -> float:
    errors: dict[str, list[float]] = {}
    for row in table:
        errors.setdefault(row.corruption, []).append(1 - row.accuracy.percent / 100)
    unknown = [corruption for corruption in errors if corruption not in reference_errors]
    if unknown:
        raise AnalysisError(
            f"the reference has no error for {', '.join(unknown)}; it has "
            f"{', '.join(reference_errors)}"
        )
    ratios = [sum(e) / len(e) / reference_errors[corruption] for corruption, e in errors.items()]
    return 100 * sum(ratios) / len(ratios)


_BARS = 64  # in a row of the figure: more cannot be told apart


def plot_robustness(results: Sequence[RobustnessResult], path: str | Path) -> None:
    """Accuracy per corruption: mean over severities (bar), lowest to highest of them (line)."""
    names = list(results[0].by_corruption())
    columns = min(len(names), max(1, _BARS // len(results)))
    parts = [names[start : start + columns] for start in range(0, len(names), columns)]
    figure = new_figure(max(6.0, min(11.3, 0.62 * len(names) + 2)), 1.0 + 2.6 * len(parts))
    cells = figure.subplots(len(parts), 1, squeeze=False)[:, 0]
    for axes, part in zip(cells, parts, strict=True):
        for number, result in enumerate(results):
            _bars(axes, result, part, number, len(results))
        axes.set_xticks(range(len(part)))
        labels = [name.replace("_", " ") for name in part]
        axes.set_xticklabels(labels, rotation=20, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylabel("accuracy (%)")
        axes.set_ylim(0, 103)
        tidy(axes)
    cells[0].set_title(
        "bars: mean over severities; lines: from the worst to the best severity; dotted: clean"
    )
    legend_above(figure, columns=2)
    save(figure, path)


def _bars(
    axes: Any, result: RobustnessResult, corruptions: Sequence[str], number: int, models: int
) -> None:
    """One model's bars, the `number`-th of each group."""
    width = 0.8 / models
    means, colour = result.by_corruption(), SERIES[number % len(SERIES)]
    places = [i + (number - (models - 1) / 2) * width for i in range(len(corruptions))]
    axes.bar(
        places, [means[name] for name in corruptions], width, color=colour, edgecolor=INK, lw=0.4,
        hatch=("", "///", "...", "xxx", "\\\\\\", "++")[number % 6],
        label=f"{result.model}: mean of {len(result.table)} sets {result.mean_percent:.1f} %",
    )  # fmt: skip
    for place, name in zip(places, corruptions, strict=True):
        found = [row.accuracy.percent for row in result.table if row.corruption == name]
        axes.plot([place, place], [min(found), max(found)], color=INK, lw=1.1)
    if result.clean is not None:
        axes.axhline(result.clean.percent, color=colour, lw=0.8, ls=":")
