"""Figure of layer gains: low-pass to the left, high-pass to the right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .style import INK, KIND_COLOURS, KIND_MARKERS, kind_legend, panels, save, tidy

if TYPE_CHECKING:
    from ..filters import FilterResult


def plot_filters(results: Sequence[FilterResult], path: str | Path) -> None:
    """A panel for each model or set of layers."""
    most = max(len(result.layers) for result in results)
    figure, cells = panels(len(results), 3, 4.6, 1.0 + 0.23 * most)
    for axes, result in zip(cells, results, strict=True):
        for place, layer in enumerate(result.layers):
            axes.plot([layer.gain.low, layer.gain.high], [place, place], color=INK, lw=1)
            axes.scatter(
                [layer.gain.mean], [place], s=34, marker=KIND_MARKERS[layer.kind],
                color=KIND_COLOURS[layer.kind], edgecolors=INK, linewidths=0.6, zorder=3,
            )  # fmt: skip
        names = [
            layer.name if layer.name == layer.setting else f"{layer.name} ({layer.setting})"
            for layer in result.layers
        ]
        axes.set_yticks(range(len(names)))
        axes.set_yticklabels(names, fontsize=7)
        axes.set_ylim(most - 0.4, -0.6)
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_xlabel("gain of high frequencies\n(below 0 low-pass, above 0 high-pass)")
        axes.set_title(result.model)
        if axes is cells[0]:
            kind_legend(axes, [layer.kind for every in results for layer in every.layers])
        tidy(axes)
    save(figure, path)
