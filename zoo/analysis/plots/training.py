"""Figures of many trainings: sweeps and the build-up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .style import INK, SERIES, new_figure, panels, save, series, tidy

if TYPE_CHECKING:
    from ..buildup import BuildUpResult
    from ..sweeps import SweepResult


def plot_sweeps(results: Sequence[SweepResult], path: str | Path) -> None:
    """Accuracy against the setting; a series for each combination of the others."""
    figure, cells = panels(len(results), 2, 4.8, 3.4)
    for axes, result in zip(cells, results, strict=True):
        values = [point.value for point in result.points]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        names = list(dict.fromkeys(str(value) for value in values))
        groups = list(dict.fromkeys(point.others for point in result.points))
        for number, others in enumerate(groups):
            points = [point for point in result.points if point.others == others]
            x = [point.value if numbers else names.index(str(point.value)) for point in points]
            means = [point.mean_percent for point in points]
            spread = [
                [point.mean_percent - point.low_percent for point in points],
                [point.high_percent - point.mean_percent for point in points],
            ]
            style = series(number) if numbers else {**series(number), "linestyle": ""}
            axes.errorbar(x, means, spread, capsize=2, label=others or None, **style)
        if not numbers:
            axes.set_xticks(range(len(names)))
            axes.set_xticklabels(names, rotation=30, ha="right")
        elif result.setting == "fraction":
            axes.set_xscale("log")
            axes.set_xticks(sorted(set(values)))
            axes.set_xticklabels([f"{100 * value:g} %" for value in sorted(set(values))])
            axes.minorticks_off()
        elif all(isinstance(value, int) for value in values) and len(names) < 12:
            axes.set_xticks(sorted(set(values)))
        label = {"fraction": "share of the training images"}
        axes.set_xlabel(label.get(result.setting, result.setting.replace("_", " ")))
        axes.set_ylabel("accuracy (%)")
        axes.set_title(result.model)
        if any(groups):
            axes.legend(frameon=False)
        tidy(axes)
    save(figure, path)


def plot_build_up(results: Sequence[BuildUpResult], path: str | Path) -> None:
    """Accuracy, accuracy under noise, and high frequencies after each replacement."""
    figure = new_figure(11.4, 3.4)
    accuracy, noise, high = figure.subplots(1, 3)
    for number, result in enumerate(results):
        style = series(number)
        steps = result.steps
        x = range(len(steps))
        test = [(s.measured.test or s.measured.validation) for s in steps]
        _with_intervals(accuracy, x, test, style, result.model)
        noise.plot(x, [s.measured.noise_percent for s in steps], **style)
        high.plot(x, [s.measured.high_frequency for s in steps], **style)
        for axes in (accuracy, noise, high):
            axes.set_xticks(list(x))
            axes.set_xticklabels(
                [step.plan for step in steps], rotation=30, ha="right", rotation_mode="anchor"
            )
    accuracy.set_ylabel("accuracy (%)")
    noise.set_ylabel("mean accuracy under noise (%)")
    high.set_ylabel("Δ log amplitude, last unit")
    for axes in (accuracy, noise, high):
        axes.set_xlabel("plan: C convolution, A attention")
        tidy(axes)
    if len(results) > 1:
        accuracy.legend(frameon=False)
    save(figure, path)


def _with_intervals(axes: Any, x: Any, found: Sequence[Any], style: Any, label: str) -> None:
    means = [entry.percent for entry in found]
    low = [entry.percent - entry.interval_percent[0] for entry in found]
    high = [entry.interval_percent[1] - entry.percent for entry in found]
    axes.errorbar(
        x, means, [low, high], capsize=2, ecolor=INK, elinewidth=0.8, label=label, **style
    )
    axes.axhline(means[0], color=SERIES[6], lw=0.7, ls=":")
