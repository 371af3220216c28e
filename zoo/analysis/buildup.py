"""Build-up: from a CNN to AlterNet, one attention block at a time.

Park & Kim, *How Do Vision Transformers Work?*, arXiv:2202.06709, its build-up rules: replace
convolution blocks from the end of a baseline; where that does not help, go on in an earlier stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..evaluation.checks import check_list
from ..evaluation.evaluate import Accuracy
from ._features import OnStep, ignore
from ._figure import _with_intervals, legend_above, new_figure, save, series, tidy
from ._results import Result

DEFINITION = (
    "each plan (C convolution, A attention block; stages separated by spaces) trained anew with "
    "the same recipe: {recipe}. noise_percent: mean accuracy over noise of all frequency bands. "
    "high_frequency: high-frequency value of the last unit's map. {data}"
)
Plan = tuple[str, ...]


@dataclass(frozen=True)
class PlanMeasurement:
    """What is measured of one trained plan; `test` is None where the data have no test part."""

    parameters: int
    validation: Accuracy
    test: Accuracy | None
    noise_percent: float
    high_frequency: float
    seconds: float


@dataclass(frozen=True)
class BuildUpStep:
    """One plan, and the block that it adds to the one before ("" for the first)."""

    plan: str
    added: str
    measured: PlanMeasurement


@dataclass(frozen=True)
class BuildUpResult(Result):
    """All plans, the baseline first."""

    steps: tuple[BuildUpStep, ...]

    def rows(self) -> list[dict[str, Any]]:
        rows = []
        for step in self.steps:
            found, test = step.measured, step.measured.test
            rows.append(
                {
                    "model": self.model,
                    "plan": step.plan,
                    "added": step.added,
                    "parameters": found.parameters,
                    "validation_percent": found.validation.percent,
                    "test_percent": None if test is None else test.percent,
                    "noise_percent": found.noise_percent,
                    "high_frequency": found.high_frequency,
                    "seconds": found.seconds,
                }
            )
        return rows

    def plot(self, path: str | Path) -> None:

        plot_build_up([self], path)


def build_up_study(
    plans: Sequence[Plan],
    measure: Callable[[Plan], PlanMeasurement],
    name: str = "model",
    recipe: str = "the same for all",
    data: str = "",
    on_step: OnStep = ignore,
) -> BuildUpResult:
    """Train and measure plans in order.

    Args: measure: trains one plan and measures it.
    Raises: ConfigError for no plans, or plans of different layouts.
    """
    plans = [check_list("plan", plan) for plan in check_list("plans", plans)]
    if not plans or len({tuple(map(len, plan)) for plan in plans}) != 1:
        raise ConfigError(
            "plans are of one layout and differ in C and A only; got "
            f"{[' '.join(plan) for plan in plans]}"
        )
    steps = []
    for number, plan in enumerate(plans, start=1):
        added = _added(plans[number - 2], plan) if number > 1 else ""
        steps.append(BuildUpStep(" ".join(plan), added, measure(plan)))
        on_step(number)
    text = DEFINITION.format(recipe=recipe, data=data).strip()
    return BuildUpResult(name, text, tuple(steps))


def _added(before: Plan, after: Plan) -> str:
    changed = [
        f"stage {stage + 1}, block {block + 1}"
        for stage, (old, new) in enumerate(zip(before, after, strict=True))
        for block, (a, b) in enumerate(zip(old, new, strict=True))
        if a != b
    ]
    return "; ".join(changed)


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
        legend_above(figure)
    save(figure, path)
