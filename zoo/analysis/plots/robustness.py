"""Figures of robustness: corruptions, noise of one frequency, filtered images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .style import INK, SERIES, new_figure, panels, save, series, tidy

if TYPE_CHECKING:
    from ..noise import NoiseResult
    from ..robustness import RobustnessResult


def plot_noise(results: Sequence[NoiseResult], path: str | Path) -> None:
    """Accuracy drop under noise of every band; accuracy on low-pass and on high-pass images."""
    figure, (noise, low, high) = panels(3, 3, 4.0, 3.2)
    for number, result in enumerate(results):
        style = series(number)
        x = [band.frequency for band in result.noise]
        drops = [band.drop_percent for band in result.noise]
        noise.plot(x, drops, label=result.model, **style)
        edges = list(zip(*(band.interval_percent for band in result.noise), strict=True))
        noise.fill_between(x, edges[0], edges[1], color=style["color"], alpha=0.15, lw=0)
        for axes, bands in ((low, result.low_pass), (high, result.high_pass)):
            f = [band.frequency for band in bands]
            axes.plot(f, [band.accuracy.percent for band in bands], label=result.model, **style)
            ends = list(zip(*(band.accuracy.interval_percent for band in bands), strict=True))
            axes.fill_between(f, ends[0], ends[1], color=style["color"], alpha=0.15, lw=0)
    noise.set_ylabel("accuracy drop (percentage points)")
    noise.set_xlabel("frequency of the noise (units of π)")
    noise.set_title(f"noise of one band, ε = {results[0].eps:g} on normalised pixels")
    for axes, what in ((low, "low-pass: up to"), (high, "high-pass: above")):
        axes.set_ylabel("accuracy (%)")
        axes.set_xlabel(f"{what} this frequency (units of π)")
        axes.set_ylim(0, 102)
    low.set_title("only low frequencies kept")
    high.set_title("only high frequencies and the mean kept")
    for axes in (noise, low, high):
        tidy(axes)
    high.legend(frameon=False, loc="upper right")
    save(figure, path)


def plot_robustness(results: Sequence[RobustnessResult], path: str | Path) -> None:
    """Accuracy per corruption, mean over severities (bar) and each severity (dots)."""
    names = list(results[0].by_corruption())
    figure = new_figure(max(6.0, 0.62 * len(names) + 2), 3.6)
    axes = figure.subplots()
    width = 0.8 / len(results)
    for number, result in enumerate(results):
        means = result.by_corruption()
        colour = SERIES[number % len(SERIES)]
        places = [i + (number - (len(results) - 1) / 2) * width for i in range(len(names))]
        axes.bar(
            places, [means[name] for name in names], width, color=colour, edgecolor=INK, lw=0.4,
            hatch=("", "///", "...", "xxx", "\\\\\\", "++")[number % 6],
            label=f"{result.model}: mean of {len(result.table)} sets {result.mean_percent:.1f} %",
        )  # fmt: skip
        for row in result.table:
            place = places[names.index(row.corruption)] + (row.severity - 3) * width / 6
            axes.plot([place], [row.accuracy.percent], "o", ms=2, color=INK)
        if result.clean is not None:
            axes.axhline(result.clean.percent, color=colour, lw=0.8, ls=":")
    axes.set_xticks(range(len(names)))
    labels = [name.replace("_", " ") for name in names]
    axes.set_xticklabels(labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 103)
    axes.set_title(
        "bars: mean over severities; dots: severities 1 to 5, left to right; dotted: clean"
    )
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    tidy(axes)
    save(figure, path)
