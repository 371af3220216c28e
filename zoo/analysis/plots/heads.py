"""Figures of attention heads: nonlocality, gates, positional attention, specificity, maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .style import (
    INK,
    KIND_COLOURS,
    KIND_MARKERS,
    SERIES,
    bare,
    new_figure,
    panels,
    save,
    series,
    tidy,
)

if TYPE_CHECKING:
    from ..attention_distance import NonlocalityResult
    from ..gate_study import GatesResult, LayerEpoch
    from ..query_attention import AttentionResult
    from ..specificity import SpecificityResult


def plot_nonlocality(results: Sequence[NonlocalityResult], path: str | Path) -> None:
    """Per model: every head (dots) and the mean over heads of each layer, in patches."""
    figure, cells = panels(len(results), 2, 4.4, 3.0)
    for number, (axes, result) in enumerate(zip(cells, results, strict=True)):
        places = range(len(result.layers))
        for i, layer in enumerate(result.layers):
            axes.plot(
                [i] * len(layer.heads), [head.mean for head in layer.heads], "o", ms=4,
                mfc="none", mec=SERIES[number % len(SERIES)], label="head" if i == 0 else None,
            )  # fmt: skip
        means = [layer.layer.mean for layer in result.layers]
        spans = [layer.layer.high - layer.layer.mean for layer in result.layers]
        axes.errorbar(
            places, means, spans, color=SERIES[number % len(SERIES)], marker="s", ms=5, lw=1.3,
            capsize=2, label="mean over heads",
        )  # fmt: skip
        uniform = [layer.uniform for layer in result.layers]
        axes.plot(places, uniform, color=INK, lw=0.9, ls=":", label="equal attention to all keys")
        axes.set_xticks(list(places))
        names = [layer.name for layer in result.layers]
        axes.set_xticklabels(names, rotation=40, ha="right", rotation_mode="anchor", fontsize=7)
        axes.set_ylabel("nonlocality (patches)")
        axes.set_ylim(0, 1.12 * max(*means, *uniform))
        axes.set_title(result.model)
        axes.legend(frameon=False, fontsize=7)
        tidy(axes)
    save(figure, path)


def plot_gates(results: Sequence[GatesResult], path: str | Path) -> None:
    """Gates of every head, positional attention of every head, and both over epochs if logged."""
    gated = [result for result in results if result.layers]
    logged = [result for result in results if result.epochs]
    heads = max((len(layer.gates) for result in gated for layer in result.layers), default=0)
    rows = sum(len(result.layers) for result in gated)
    width, height = 1.25 * heads + 2.6, 1.35 * rows + 0.3
    figure = new_figure(max(width, 8.0 if logged else 0), height + 3.0 * len(logged))
    parts = figure.subfigures(
        (rows > 0) + len(logged), 1, squeeze=False,
        height_ratios=([height] if rows else []) + [3.0] * len(logged),
    )  # fmt: skip
    if rows:
        _gate_rows(parts[0, 0], gated, rows, heads)
    for part, result in zip(parts[rows > 0 :, 0], logged, strict=True):
        _epoch_row(part, result.model, result.epochs)
    save(figure, path)


def _gate_rows(figure: Any, results: Sequence[GatesResult], rows: int, heads: int) -> None:
    cells = figure.subplots(rows, heads + 1, squeeze=False, width_ratios=[2.0] + [1] * heads)
    layers = [(result.model, layer) for result in results for layer in result.layers]
    for row, (model, layer) in enumerate(layers):
        bars = cells[row, 0]
        bars.bar(range(len(layer.gates)), layer.gates, color=SERIES[0], width=0.6, ec=INK, lw=0.4)
        bars.set_ylim(0, 1)
        bars.axhline(0.5, color=INK, lw=0.6, ls=":")
        bars.set_xticks(range(len(layer.gates)))
        bars.set_ylabel(f"{model}\n{layer.name}", fontsize=7)
        tidy(bars, grid=False)
        for head in range(heads):
            cell = cells[row, head + 1]
            if head < len(layer.position):
                cell.imshow(layer.position[head], cmap="viridis", vmin=0)
                _mark(cell, len(layer.position[head]), len(layer.position[head][0]))
                cell.set_xlabel(f"reach {layer.reach[head]:.1f}", fontsize=7, labelpad=1)
            else:
                cell.set_visible(False)
            bare(cell)
            if row == 0:
                cell.set_title(f"head {head}", fontsize=8)
    cells[0, 0].set_title("gate (1: position only)", fontsize=8)
    cells[-1, 0].set_xlabel("head")
    figure.suptitle(
        "gates, and positional attention from the central patch (reach in patches)", fontsize=9
    )


def _mark(axes: Any, height: int, width: int) -> None:
    axes.scatter([width // 2], [height // 2], marker="s", s=16, fc="none", ec="white", lw=1.2)


def _epoch_row(figure: Any, model: str, epochs: Sequence[LayerEpoch]) -> None:
    gate, distance = figure.subplots(1, 2)
    for number, name in enumerate(dict.fromkeys(entry.name for entry in epochs)):
        entries = [entry for entry in epochs if entry.name == name]
        style = {**series(number), "markersize": 3}
        x = [entry.epoch for entry in entries]
        distance.plot(
            x, [sum(e.nonlocality) / len(e.nonlocality) for e in entries], label=name, **style
        )
        gates = [(e.epoch, sum(e.gates) / len(e.gates)) for e in entries if e.gates]
        if gates:
            gate.plot(*zip(*gates, strict=True), label=name, **style)
    if not any(entry.gates for entry in epochs):
        gate.text(0.5, 0.5, "no gates", ha="center", va="center", transform=gate.transAxes)
        gate.set_xticks([])
    gate.set_ylim(0, 1)
    gate.set_ylabel("gate, mean over heads")
    distance.set_ylabel("nonlocality (patches), mean over heads")
    distance.set_ylim(bottom=0)
    for axes in (gate, distance):
        axes.set_xlabel("epoch")
        axes.set_title(model)
        tidy(axes)
    distance.legend(frameon=False, fontsize=7)


def plot_specificity(results: Sequence[SpecificityResult], path: str | Path) -> None:
    """Share of variance between images against share between places: heads and feature maps."""
    figure, cells = panels(len(results), 3, 3.9, 3.6)
    for axes, result in zip(cells, results, strict=True):
        for kind, marker in (("global", "o"), ("neighbours", "*"), ("windows", "h")):
            shares = [share for share in result.attention if share.kind == kind]
            if shares:
                axes.scatter(
                    [s.query_share for s in shares], [s.image_share for s in shares], s=44,
                    marker=marker, color=SERIES[2], edgecolors=INK, linewidths=0.5,
                    label=f"attention head, keys: {kind}",
                )  # fmt: skip
        for kind in KIND_MARKERS:
            shares = [share for share in result.responses if share.kind == kind]
            if shares:
                axes.scatter(
                    [s.query_share for s in shares], [s.image_share for s in shares], s=26,
                    marker=KIND_MARKERS[kind], color=KIND_COLOURS[kind], edgecolors=INK,
                    linewidths=0.5, label=f"map after {kind}",
                )  # fmt: skip
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("share of variance between places (queries)")
        axes.set_ylabel("share of variance between images")
        axes.set_title(result.model)
        axes.legend(fontsize=6, loc="lower left")
        tidy(axes)
    save(figure, path)


def plot_attention(results: Sequence[AttentionResult], path: str | Path) -> None:
    """Attention of the query patch, a row for each layer and a column for each head."""
    heads = max(len(layer.maps) for result in results for layer in result.layers)
    rows = sum(len(result.layers) for result in results)
    figure = new_figure(1.25 * (heads + 1) + 0.8, 1.4 * rows + 0.5)
    cells = figure.subplots(rows, heads + 1, squeeze=False)
    layers = [(result, layer) for result in results for layer in result.layers]
    for row, (result, layer) in enumerate(layers):
        image = cells[row, 0]
        image.imshow(result.image, interpolation="nearest")
        height, width = len(result.image), len(result.image[0])
        image.scatter(
            [(layer.query[1] + 0.5) * width / layer.grid[1] - 0.5],
            [(layer.query[0] + 0.5) * height / layer.grid[0] - 0.5],
            marker="s", s=22, fc="none", ec="#D55E00", lw=1.5,
        )  # fmt: skip
        image.set_ylabel(f"{result.model}\n{layer.name}", fontsize=5.5)
        for head in range(heads):
            cell = cells[row, head + 1]
            cell.set_visible(head < len(layer.maps))
            if head < len(layer.maps):
                cell.imshow(layer.maps[head], cmap="viridis", vmin=0)
                if layer.whole:
                    cell.scatter(
                        [layer.query[1]], [layer.query[0]], marker="s", s=14, fc="none",
                        ec="white", lw=1,
                    )  # fmt: skip
            if row == 0:
                cell.set_title(f"head {head}", fontsize=8)
        for cell in cells[row]:
            bare(cell)
    cells[0, 0].set_title("query", fontsize=8)
    save(figure, path)
