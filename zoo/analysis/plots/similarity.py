"""Figures of similarity: attention of several queries side by side, maps of global contexts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .style import SERIES, bare, new_figure, save, series, tidy

if TYPE_CHECKING:
    from ..similarity import SimilarityResult


def plot_similarity(results: Sequence[SimilarityResult], path: str | Path) -> None:
    """Numbers over depth, then per model pictures of its last layer."""
    attending = [result for result in results if result.heads]
    pictures = [_pictures(result) for result in results]
    tall = [2.9] * bool(attending) + [1.25 * len(rows) + 0.5 for _, rows in pictures]
    widest = max(len(row) for _, rows in pictures for _, row in rows)
    figure = new_figure(max(8.4, 1.1 * widest + 1.2), sum(tall))
    parts = figure.subfigures(len(tall), 1, squeeze=False, height_ratios=tall)[:, 0]
    if attending:
        _numbers(parts[0], attending)
    for part, (title, rows) in zip(parts[bool(attending) :], pictures, strict=True):
        _grid(part, title, rows)
    save(figure, path)


def _pictures(result: SimilarityResult) -> tuple[str, list[tuple[str, list[Any]]]]:
    """A title, and rows of maps with their labels."""
    if result.queries:
        last = result.queries[-1]
        rows = [
            (f"query {place}", [maps[number] for maps in last.maps])
            for number, place in enumerate(last.queries)
        ]
        return f"{result.model}, {last.layer}: attention, a column for each head", rows
    rows = [(context.module, list(context.maps)) for context in result.contexts[-2:]]
    return f"{result.model}: similarity to the average token, a column for each group", rows


def _numbers(figure: Any, results: Sequence[SimilarityResult]) -> None:
    names = (
        ("query_similarity", "cosine between queries"),
        ("head_similarity", "cosine between heads"),
        ("entropy", "entropy / equal attention's"),
        ("top_share", "attention on top 10 % of keys"),
    )
    cells = figure.subplots(1, len(names))
    for axes, (key, title) in zip(cells, names, strict=True):
        for number, result in enumerate(results):
            layers = list(dict.fromkeys(head.layer for head in result.heads))
            means = []
            for layer in layers:
                values = [getattr(h, key).mean for h in result.heads if h.layer == layer]
                means.append(sum(values) / len(values))
            x = [i / max(1, len(layers) - 1) for i in range(len(layers))]
            axes.plot(x, means, label=result.model, **series(number))
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("relative depth")
        axes.set_title(title, fontsize=8)
        tidy(axes)
    figure.legend(
        *cells[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False,
        fontsize=7,
    )  # fmt: skip


def _grid(figure: Any, title: str, rows: Sequence[tuple[str, list[Any]]]) -> None:
    widest = max(len(row) for _, row in rows)
    cells = figure.subplots(len(rows), widest, squeeze=False)
    for line, (label, row) in zip(cells, rows, strict=True):
        line[0].set_ylabel("\n".join(label.rsplit(".", 2)), fontsize=6.5, color=SERIES[6])
        for cell, maps in zip(line, row, strict=False):
            cell.imshow(maps, cmap="viridis")
        for cell in line:
            bare(cell)
        for cell in line[len(row) :]:
            cell.set_visible(False)
    figure.suptitle(title, fontsize=9)
