"""Figures over depth: Fourier analysis, feature-map variance, lesions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .style import INK, KIND_COLOURS, KIND_MARKERS, SERIES, kind_legend, panels, save, tidy

if TYPE_CHECKING:
    from ..feature_variance import VarianceResult
    from ..fourier import FourierResult
    from ..lesion import LesionResult


def plot_fourier(results: Sequence[FourierResult], path: str | Path) -> None:
    """Per model: a curve per unit, and the high-frequency value along depth."""
    figure, cells = panels(2 * len(results), 2, 4.2, 3.0)
    for number, result in enumerate(results):
        curves, depth = cells[2 * number : 2 * number + 2]
        shades = _shades(len(result.units))
        for unit, colour in zip(result.units, shades, strict=True):
            curves.plot(
                unit.frequencies, unit.amplitudes, color=colour, lw=1.2,
                marker=KIND_MARKERS[unit.kind], ms=3.5,
            )  # fmt: skip
        curves.set_xlabel("frequency (units of π)")
        curves.set_ylabel("Δ log amplitude")
        curves.set_title(f"{result.model}\ncurves: first unit dark, last light", fontsize=8)
        tidy(curves)
        _along_depth(
            depth,
            [(unit.name, unit.kind, unit.high_frequency) for unit in result.units],
            [unit.change is not None for unit in result.units],
        )
        depth.set_ylabel("Δ log amplitude at the end")
        depth.set_title(f"{result.model}\nhighest frequency", fontsize=8)
    save(figure, path)


def plot_variance(results: Sequence[VarianceResult], path: str | Path) -> None:
    """Variance along depth, a panel for each model."""
    figure, cells = panels(len(results), 2, 4.4, 3.0)
    for cell, result in zip(cells, results, strict=True):
        joined = [unit.ratio is not None for unit in result.units]
        units = [(unit.name, unit.kind, unit.variance) for unit in result.units]
        _along_depth(cell, units, joined)
        cell.set_ylabel("variance over positions")
        cell.set_ylim(bottom=0)
        cell.set_title(result.model)
    save(figure, path)


def _along_depth(axes: Any, units: Sequence[tuple[str, str, Any]], joined: Sequence[bool]) -> None:
    """Estimates at their places, with intervals, marks by kind, names below."""
    places = range(len(units))
    for i in places[1:]:
        if joined[i]:
            pair = [units[i - 1][2].mean, units[i][2].mean]
            axes.plot([i - 1, i], pair, color="#b7bcc4", lw=1.2, zorder=1)
    for i, (_, kind, estimate) in enumerate(units):
        axes.errorbar(
            [i], [estimate.mean],
            [[estimate.mean - estimate.low], [estimate.high - estimate.mean]],
            color=INK, lw=0.8, capsize=2, zorder=2,
        )  # fmt: skip
        axes.scatter(
            [i], [estimate.mean], s=34, marker=KIND_MARKERS[kind], color=KIND_COLOURS[kind],
            edgecolors=INK, linewidths=0.6, zorder=3,
        )  # fmt: skip
    _name_places(axes, [name for name, _, _ in units])
    kind_legend(axes, [kind for _, kind, _ in units])
    tidy(axes)


def _name_places(axes: Any, names: Sequence[str]) -> None:
    """Names below the axis: all of them, or every n-th where they would overlap."""
    step = max(1, -(-len(names) // 26))
    axes.set_xticks(range(0, len(names), step))
    short = [_short(name) for name in names[::step]]
    axes.set_xticklabels(short, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
    axes.set_xlabel("depth →")


def _short(name: str) -> str:
    name = name.replace(" attention", " attn").replace(" convolution", " conv")
    return name.replace("transformers.", "").replace("blocks.", "").replace("network.", "")


def _shades(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis"](0.92 * i / max(1, count - 1)) for i in range(count)]


def plot_lesions(results: Sequence[LesionResult], path: str | Path) -> None:
    """Accuracy lost by every unit, with its interval; what cannot be removed is named so."""
    most = max(len(result.lesions) for result in results)
    figure, cells = panels(len(results), 2, 4.6, 0.9 + 0.24 * most)
    for cell, result in zip(cells, results, strict=True):
        for i, lesion in enumerate(result.lesions):
            if lesion.drop_percent is None or lesion.interval_percent is None:
                cell.text(
                    0.02, i, lesion.note, va="center", fontsize=6.5,
                    transform=cell.get_yaxis_transform(),
                )  # fmt: skip
                continue
            low, high = lesion.interval_percent
            cell.barh(
                i, lesion.drop_percent, color=KIND_COLOURS[lesion.kind], edgecolor=INK, lw=0.5,
                height=0.7, hatch={"convolution": "///", "mlp": "..."}.get(lesion.kind, ""),
            )  # fmt: skip
            cell.plot([low, high], [i, i], color=INK, lw=1)
        cell.set_yticks(range(len(result.lesions)))
        cell.set_yticklabels([_short(lesion.name) for lesion in result.lesions], fontsize=7)
        cell.set_ylim(len(result.lesions) - 0.4, -0.7)
        cell.set_xlabel("accuracy lost (percentage points)")
        cell.set_title(f"{result.model}: intact {result.intact.percent:.1f} %")
        cell.axvline(0, color=SERIES[6], lw=0.8)
        tidy(cell)
    _hatch_legend(cells[0], [lesion.kind for result in results for lesion in result.lesions])
    save(figure, path)


def _hatch_legend(axes: Any, kinds: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    hatches = {"attention": "", "convolution": "///", "mlp": "..."}
    handles = [
        Patch(facecolor=KIND_COLOURS[kind], edgecolor=INK, hatch=hatch, label=kind)
        for kind, hatch in hatches.items()
        if kind in kinds
    ]
    axes.legend(handles=handles, frameon=True, loc="best", fontsize=7)
