"""Variance of feature maps over positions, along depth.

Park & Kim, *How Do Vision Transformers Work?*, arXiv:2202.06709; definition of
how-do-vits-work `featuremap_variance.ipynb`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ._features import OnStep, ignore, measure_maps
from ._figure import _along_depth, kind_legend, panels, save
from ._results import Estimate, Result
from ._units import Unit

DEFINITION = (
    "unbiased variance over the positions of a feature map, per image and channel; mean over both. "
    "Class tokens are left out."
)


def map_variances(maps: Tensor) -> Tensor:
    """Variance over positions, mean over channels. Shape: (B, C, h, w) -> (B,).

    NaN for maps of one position, which have none.
    """
    if maps.shape[2] * maps.shape[3] < 2:
        return maps.new_full((len(maps),), float("nan"))
    return maps.flatten(2).var(-1).mean(1)


@dataclass(frozen=True)
class UnitVariance:
    """Variance of one unit's maps; `ratio` is relative to the unit before (None for the first)."""

    name: str
    kind: str
    variance: Estimate
    ratio: float | None


@dataclass(frozen=True)
class VarianceResult(Result):
    """Variances of all units, in the order of execution."""

    units: tuple[UnitVariance, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": self.model,
                "unit": unit.name,
                "kind": unit.kind,
                "variance": unit.variance.mean,
                "low": unit.variance.low,
                "high": unit.variance.high,
                "ratio": unit.ratio,
            }
            for unit in self.units
        ]

    def plot(self, path: str | Path) -> None:

        plot_variance([self], path)


def feature_variance(
    model: nn.Module,
    loader: Iterable[Any],
    units: Sequence[Unit] | None = None,
    name: str = "model",
    on_step: OnStep = ignore,
) -> VarianceResult:
    """Variance over positions of every unit's feature map.

    Args: model, loader, units, on_step: see `measure_maps`.
    Raises: AnalysisError.
    """
    found: list[UnitVariance] = []
    for unit, moments in measure_maps(model, loader, map_variances, units, on_step).items():
        variance = moments.estimates()[0]
        before = found[-1].variance.mean if found else 0.0
        ratio = variance.mean / before if before > 0 else None
        found.append(UnitVariance(unit.name, unit.kind, variance, ratio))
    return VarianceResult(name, DEFINITION, tuple(found))


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
    kind_legend(figure, [unit.kind for result in results for unit in result.units])
    save(figure, path)
