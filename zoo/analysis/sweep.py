"""Curves and tables from many training runs: a metric against a setting, seeds averaged.

For sample efficiency and ablations (d'Ascoli et al., arXiv:2103.10697, tables 2 and 3) and for the
kernel size of convolutional attention (Park & Kim, arXiv:2202.06709, figure 7). Runs come from the
sweep.json that `convattn train --sweep` writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from ..catalog.checked_json import Document
from ..errors import AnalysisError, ConfigError
from ..evaluation.checks import check_choice
from ._figure import legend_above, panels, save, series, tidy
from ._results import Result

FILE = "sweep.json"
PARTS = ("validation", "test")
ALL = "settings"  # the x axis where no setting is a number: all of them in words
DEFINITION = (
    "top-1 accuracy on the {part} part against {setting}; a point is the mean over up to {seeds} "
    "seed(s), bars from the lowest to the highest seed. {data}"
)


class _Part(TypedDict):
    acc1_percent: float


class _Finished(TypedDict):
    settings: dict[str, Any]
    validation: _Part | None


class _Row(_Finished, total=False):
    run: str
    test: _Part | None
    fraction: float
    seed: int


class _Content(TypedDict):
    model: str
    data: str
    rows: list[_Row]


DOCUMENT = Document(
    _Content, "sweep", "sweep", "expected what convattn train --sweep writes", AnalysisError
)


@dataclass(frozen=True)
class SweepRow:
    """One run: its settings, with "fraction" and "seed" among them, and accuracies in percent."""

    settings: dict[str, Any]
    run: str
    validation_percent: float
    test_percent: float | None


@dataclass(frozen=True)
class SweepPoint:
    """Runs that differ in their seed only."""

    value: Any
    others: str
    mean_percent: float
    low_percent: float
    high_percent: float
    seeds: int


@dataclass(frozen=True)
class SweepResult(Result):
    """Points in the order of the setting's values; `others` tells series apart."""

    setting: str
    points: tuple[SweepPoint, ...]
    table: tuple[SweepRow, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": self.model,
                self.setting: point.value,
                "others": point.others,
                "acc1_percent": point.mean_percent,
                "low": point.low_percent,
                "high": point.high_percent,
                "seeds": point.seeds,
            }
            for point in self.points
        ]

    def plot(self, path: str | Path) -> None:

        plot_sweeps([self], path)


def read_sweep(directory: str | Path) -> tuple[str, str, tuple[SweepRow, ...]]:
    """(model, data, rows) of a sweep; runs that diverged are left out.

    Raises: NotFoundError, AnalysisError for a damaged file.
    """
    path = Path(directory)
    path = path / FILE if path.is_dir() else path
    content = DOCUMENT.read(path)
    rows = tuple(_row(row) for row in content["rows"] if row["validation"] is not None)
    model, source = content["model"], content["data"]
    if not rows:
        raise AnalysisError(
            f"{path} holds no finished runs; continue it with `convattn train --sweep`",
            code="sweep",
        )
    return model, source, rows


def _row(entry: _Row) -> SweepRow:
    settings = dict(entry["settings"])
    settings.setdefault("fraction", entry.get("fraction", 1.0))
    settings.setdefault("seed", entry.get("seed", 0))
    test = entry.get("test")
    return SweepRow(
        settings,
        entry.get("run", ""),
        float(entry["validation"]["acc1_percent"]),
        None if test is None else float(test["acc1_percent"]),
    )


def sweep_study(
    directory: str | Path, setting: str | None = None, part: str = "validation"
) -> SweepResult:
    """Accuracy against a setting.

    Args:
        setting: default: the first with numbers that varies, "fraction" before others; else all
            that vary, in words. The seed never counts.
        part: "validation" or "test".
    Raises: AnalysisError; ConfigError for another part, a setting that no run has, or that does not
        vary.
    """
    check_choice("part", part, PARTS)
    model, data, rows = read_sweep(directory)
    varying = varying_settings(rows)
    if setting is None and varying and not _numeric(rows, varying):
        named = [{**row.settings, ALL: _label(row, varying)} for row in rows]
        rows = tuple(replace(row, settings=s) for row, s in zip(rows, named, strict=True))
        setting, varying = ALL, [ALL]
    chosen = setting or _default_setting(rows, varying)
    if chosen not in varying:
        raise ConfigError(
            f"the setting {chosen!r} does not vary in this sweep; those that do: "
            f"{', '.join(varying) or 'none'}"
        )
    points = _points(rows, chosen, [key for key in varying if key != chosen], part)
    seeds = max(point.seeds for point in points)
    text = DEFINITION.format(part=part, setting=chosen, seeds=seeds, data=f"{model} on {data}.")
    return SweepResult(model, text, chosen, tuple(points), rows)


def _points(
    rows: Sequence[SweepRow], setting: str, others: Sequence[str], part: str
) -> list[SweepPoint]:
    """Seeds averaged; series by series, each in the order of the values: numbers by size, others as
    they come. Raises: AnalysisError.
    """
    groups: dict[tuple[str, str], list[float]] = {}
    values: dict[str, Any] = {}
    for row in rows:
        value = row.settings.get(setting)
        accuracy = row.validation_percent if part == "validation" else row.test_percent
        if accuracy is None:
            raise AnalysisError("this sweep measured no test part; use part='validation'")
        values[_text(value)] = value
        groups.setdefault((_label(row, others), _text(value)), []).append(accuracy)
    points = [
        SweepPoint(values[key], series, sum(a) / len(a), min(a), max(a), len(a))
        for (series, key), a in groups.items()
    ]
    series_order = list(dict.fromkeys(point.others for point in points))
    order = sorted(values.values(), key=lambda v: float(v) if _is_number(v) else math.inf)
    points.sort(key=lambda point: (series_order.index(point.others), order.index(point.value)))
    return points


def varying_settings(rows: Sequence[SweepRow]) -> list[str]:
    """Settings with more than one value, the seed apart."""
    names = dict.fromkeys(key for row in rows for key in row.settings)
    return [
        name
        for name in names
        if name != "seed" and len({_text(row.settings.get(name)) for row in rows}) > 1
    ]


def _default_setting(rows: Sequence[SweepRow], varying: Sequence[str]) -> str:
    order = sorted(_numeric(rows, varying), key=lambda name: name != "fraction")
    return [*order, *varying, ""][0]


def _numeric(rows: Sequence[SweepRow], varying: Sequence[str]) -> list[str]:
    return [name for name in varying if all(_is_number(row.settings.get(name)) for row in rows)]


def _label(row: SweepRow, names: Sequence[str]) -> str:
    """What tells a series apart; settings that a run leaves at their default are not named."""
    given = [name for name in names if row.settings.get(name) is not None]
    shown = {name: "" if name == "model" else f"{name}=" for name in given}
    text = ", ".join(f"{shown[name]}{_text(row.settings[name])}" for name in given)
    return text or ("default" if names else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def plot_sweeps(results: Sequence[SweepResult], path: str | Path) -> None:
    """Accuracy against the setting; a series for each combination of the others. What is no number
    stands in lines.
    """
    lines = max(sum(name.count(", ") + 1 for name in _names(result)) for result in results)
    figure, cells = panels(len(results), 2, 4.8, max(3.4, 0.24 * lines))
    for axes, result in zip(cells, results, strict=True):
        named = {"fraction": "share of the training images"}
        setting = named.get(result.setting, result.setting.replace("_", " "))
        if all(_is_number(point.value) for point in result.points):
            _draw_numbers(axes, result)
            axes.set_xlabel(setting)
            axes.set_ylabel("accuracy (%)")
        else:
            _draw_words(axes, result)
            axes.set_ylabel(setting)
            axes.set_xlabel("accuracy (%)")
        axes.set_title(result.model)
        tidy(axes)
    legend_above(figure)
    save(figure, path)


def _names(result: SweepResult) -> list[str]:
    return list(dict.fromkeys(str(point.value) for point in result.points))


def _series(result: SweepResult) -> Iterator[tuple[str, list[SweepPoint], Any, Any]]:
    """Of each series: its name, its points, their means, and how far the bars go down and up."""
    for others in dict.fromkeys(point.others for point in result.points):
        points = [point for point in result.points if point.others == others]
        means = [point.mean_percent for point in points]
        spread = [
            [point.mean_percent - point.low_percent for point in points],
            [point.high_percent - point.mean_percent for point in points],
        ]
        yield others, points, means, spread


def _draw_numbers(axes: Any, result: SweepResult) -> None:
    for number, (others, points, means, spread) in enumerate(_series(result)):
        x = [point.value for point in points]
        axes.errorbar(x, means, spread, capsize=2, label=others or None, **series(number))
    values = sorted({point.value for point in result.points})
    if result.setting == "fraction":
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{100 * value:g} %" for value in values])
        axes.minorticks_off()
    elif all(isinstance(value, int) for value in values) and len(values) < 12:
        axes.set_xticks(values)


def _draw_words(axes: Any, result: SweepResult) -> None:
    names = _names(result)
    for number, (others, points, means, spread) in enumerate(_series(result)):
        y = [names.index(str(point.value)) for point in points]
        style = {**series(number), "linestyle": ""}
        axes.errorbar(means, y, xerr=spread, capsize=2, label=others or None, **style)
    axes.set_yticks(range(len(names)), [name.replace(", ", ",\n") for name in names], fontsize=7)
    axes.invert_yaxis()
