"""Figures of an evaluation: reliability diagram and confusion matrix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._figure import ACCENT, INK, MUTED, new_figure, save, tidy
from ._lettering import class_names

if TYPE_CHECKING:
    from ..evaluation.evaluate import Evaluation


_NAMED = 30  # classes whose names fit beside the matrix
_COUNTED = 15  # classes whose counts fit into its cells


def plot_reliability(found: Evaluation, path: str | Path) -> None:
    """Accuracy against confidence per bin, and how many images each bin holds.

    Raises: MissingDependencyError without matplotlib, ResourceError.
    """
    bins = found.reliability
    filled = bins.counts > 0
    centres = (bins.edges[:-1] + bins.edges[1:]) / 2
    width = bins.edges[1] - bins.edges[0]
    figure = new_figure(4.2, 4.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=":")
    above.bar(centres[filled], bins.accuracy[filled], width=0.92 * width, color=ACCENT, alpha=0.75)
    above.plot(bins.confidence[filled], bins.accuracy[filled], "o", ms=3, color=INK)
    above.set_xlim(0, 1)
    above.set_ylim(0, 1)
    above.set_ylabel("accuracy")
    ece, ecse = found.values["ece"], found.values["ecse"]
    title = f"{found.dataset}: ECE {ece:.4f}, ECSE {ecse:+.4f}, {len(found.outcomes)} images"
    above.set_title(title)
    below.bar(centres, bins.counts, width=0.92 * width, color=MUTED)
    below.set_yscale("symlog", linthresh=1)
    below.set_ylabel("images")
    below.set_xlabel("confidence (points: mean of the bin)")
    for axes in (above, below):
        tidy(axes)
    save(figure, path)


def plot_confusion(found: Evaluation, path: str | Path) -> None:
    """Share of each class (row) that is taken for each class (column); classes are numbers where
    this machine has no font for their names (`_lettering.class_names`).

    Raises: MissingDependencyError without matplotlib, ResourceError.
    """
    matrix = found.confusion
    rows = matrix.sum(-1, keepdims=True)
    shares = np.divide(matrix, rows, out=np.zeros(matrix.shape), where=rows > 0)
    classes = len(matrix)
    names, families = class_names(found.labels)
    longest = max(map(len, names)) if classes <= _NAMED else 0
    side = 2.0 + 0.32 * min(classes, _NAMED) + 0.08 * max(0, longest - 12)
    figure = new_figure(side, side)
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("share of the true class", fontsize=7)
    if classes <= _NAMED:
        how = {"fontsize": 7, "family": families, "parse_math": False}
        axes.set_xticks(range(classes), names, rotation=90, **how)
        axes.set_yticks(range(classes), names, **how)
    if classes <= _COUNTED:
        _write_counts(axes, matrix, shares)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{found.dataset}: {found.accuracy.percent:.2f} %")
    save(figure, path)


def _write_counts(axes: Any, matrix: Any, shares: Any) -> None:
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if shares[row, column] > 0.5 else INK
        axes.text(
            column, row, str(matrix[row, column]), ha="center", va="center", fontsize=7,
            color=colour,
        )  # fmt: skip
