"""Figures of the demo: predictions, and GPSA on one image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .style import ACCENT, INK, MUTED, new_figure, save

if TYPE_CHECKING:
    from numpy import ndarray

    from ...prediction import Prediction


def plot_predictions(
    images: Sequence[Any], predictions: dict[str, Sequence[Prediction]], path: str | Path
) -> None:
    """One column per image: the image, and under it a bar per model with label and probability.

    Args:
        images: PIL images.
        predictions: model name -> one prediction per image.
    Raises: MissingDependencyError without matplotlib, ResourceError.
    """
    count, names = len(images), list(predictions)
    figure = new_figure(1.05 * count + 2.2, 1.5 + 0.55 * len(names))
    axes = figure.subplots(
        1 + len(names), count, squeeze=False, height_ratios=[2.2] + [1] * len(names)
    )
    for column, image in enumerate(images):
        axes[0, column].imshow(image, interpolation="nearest")
        for row, name in enumerate(names, start=1):
            found = predictions[name][column]
            cell = axes[row, column]
            cell.barh([0], [found.probabilities[0]], color=ACCENT, height=0.5)
            cell.set_xlim(0, 1)
            cell.set_ylim(-1.1, 0.5)
            cell.text(
                0.5, -0.72, f"{found.label}  {100 * found.probabilities[0]:.0f} %",
                ha="center", va="center", color=INK, fontsize=8,
            )  # fmt: skip
    for row, name in enumerate(names, start=1):
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8, color=INK)
    for cell in axes.flat:
        cell.set_xticks([])
        cell.set_yticks([])
        cell.spines[:].set_visible(False)
    figure.suptitle("Real scans from the test part, and what each model answers", fontsize=10)
    save(figure, path)


def plot_gpsa(
    image: Any,
    attention: dict[str, ndarray[Any, Any]],
    gates: dict[str, ndarray[Any, Any]],
    grid: tuple[int, int],
    path: str | Path,
) -> None:
    """Gates of every GPSA head, and where each head looks from the central patch.

    Args:
        image: PIL image that the attention was computed on.
        attention: layer name -> (nh, N, N), GPSA layers only.
        gates: layer name -> (nh,), the same layers.
        grid: (H, W) in patches.
    Raises: MissingDependencyError without matplotlib, ResourceError.
    """
    layers = list(attention)
    heads = max(len(value) for value in attention.values())
    query = (grid[0] // 2, grid[1] // 2)
    figure = new_figure(1.5 * (heads + 2), 1.5 * len(layers) + 0.7)
    axes = figure.subplots(
        len(layers), heads + 2, squeeze=False, width_ratios=[1, 1.3] + [1] * heads
    )
    for row, name in enumerate(layers):
        _show_query(axes[row, 0], image, grid, query)
        axes[row, 0].set_ylabel(name, fontsize=8, color=INK)
        _show_gates(axes[row, 1], gates[name])
        for head, weights in enumerate(attention[name]):
            cell = axes[row, 2 + head]
            cell.imshow(weights[query[0] * grid[1] + query[1]].reshape(grid), cmap="viridis")
            cell.scatter([query[1]], [query[0]], marker="s", s=14, fc="none", ec="white")
            cell.set_xticks([])
            cell.set_yticks([])
            if row == 0:
                cell.set_title(f"head {head}", fontsize=8, color=INK)
    axes[0, 0].set_title("query patch", fontsize=8, color=INK)
    axes[0, 1].set_title("gate per head\n(1 = position only)", fontsize=8, color=INK)
    figure.suptitle("GPSA on one scan: gates, and attention from the central patch", fontsize=10)
    save(figure, path)


def _show_query(cell: Any, image: Any, grid: tuple[int, int], query: tuple[int, int]) -> None:
    cell.imshow(image.resize((32 * grid[1], 32 * grid[0]), 0))
    cell.scatter(
        [32 * query[1] + 16],
        [32 * query[0] + 16],
        marker="s",
        s=22,
        fc="none",
        ec="#e4572e",
        lw=1.5,
    )
    cell.set_xticks([])
    cell.set_yticks([])


def _show_gates(cell: Any, values: ndarray[Any, Any]) -> None:
    cell.bar(range(len(values)), values, color=ACCENT, width=0.6)
    cell.set_ylim(0, 1)
    cell.set_xticks(range(len(values)))
    cell.set_yticks([0, 0.5, 1])
    cell.tick_params(labelsize=7, colors=MUTED)
    cell.axhline(0.5, color=MUTED, lw=0.6, ls=":")
    cell.spines[["top", "right"]].set_visible(False)
