"""Hessian max-eigenvalue spectra: largest eigenvalues of the loss of single mini-batches.

Park & Kim, *How Do Vision Transformers Work?*, arXiv:2202.06709, figures 1c and 4; the protocol as
their author describes it (no code was published) and Park & Kim, *Blurs Behave Like Ensembles*,
arXiv:2105.12639, appendix A: NLL + L2 on augmented training data, top eigenvalues of every
mini-batch by power iteration, collected over batches. Where we decide: L2 is (wd / 2) |w|^2 over
the trained parameters, which shifts every eigenvalue by exactly wd; eval mode (running statistics,
no drop path).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..evaluation.checks import check_count, check_number
from ._features import OnStep, ignore
from ._figure import INK, LINES, SERIES, legend_above, panels, save, series, tidy
from ._hessian_product import hessian_product
from ._hooks import device_of, read_batches, unchanged
from ._lanczos import Product, smooth_density, spectral_density, top_eigenvalues
from ._results import Result

DEFINITION = (
    "for every mini-batch the {count} eigenvalues of largest magnitude of the Hessian of NLL + "
    "(wd / 2) |w|^2, wd = {decay:g}, over all trained parameters; power iteration on "
    "Hessian-vector products, to a relative change of {tolerance:g} or {limit} iterations; eval "
    "mode; {data}."
)


@dataclass(frozen=True)
class HessianResult(Result):
    """Eigenvalues over mini-batches.

    Args:
        eigenvalues: a row for each batch, the largest magnitude first.
        iterations: power iterations, likewise.
        converged: whether each met the tolerance; what did not is a value on the way.
        converged_share: share of eigenvalues that met the tolerance.
        weight_decay, parameters, batch_size: of the loss and the model.
        density_points, density: spectral density of one batch by stochastic Lanczos quadrature;
            empty where it was not asked for.
        negative_mass: share of the whole spectrum below 0, by the same quadrature; None without.
    """

    eigenvalues: tuple[tuple[float, ...], ...]
    iterations: tuple[tuple[int, ...], ...]
    converged: tuple[tuple[bool, ...], ...]
    converged_share: float
    weight_decay: float
    parameters: int
    batch_size: int
    density_points: tuple[float, ...]
    density: tuple[float, ...]
    negative_mass: float | None

    @property
    def negative_share(self) -> float:
        """Share of negative ones among the collected eigenvalues."""
        flat = [value for row in self.eigenvalues for value in row]
        return sum(value < 0 for value in flat) / len(flat)

    @property
    def mean_positive(self) -> float:
        """Mean of the positive ones: the sharpness."""
        flat = [value for row in self.eigenvalues for value in row if value > 0]
        return sum(flat) / len(flat) if flat else float("nan")

    def to_dict(self) -> dict[str, Any]:
        summary = {"negative_share": self.negative_share, "mean_positive": self.mean_positive}
        return {**super().to_dict(), **summary}

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": self.model,
                "batch": batch,
                "rank": rank,
                "eigenvalue": value,
                "iterations": self.iterations[batch][rank],
                "converged": "yes" if self.converged[batch][rank] else "no",
            }
            for batch, row in enumerate(self.eigenvalues)
            for rank, value in enumerate(row)
        ]

    def plot(self, path: str | Path) -> None:

        plot_hessian([self], path)


@dataclass(frozen=True)
class HessianSettings:
    """How to look: `count` eigenvalues a batch, weight decay, when to stop, Lanczos steps.

    `density_steps` 0 leaves the spectral density out. `data` says what the batches are, e.g.
    "augmented training data".

    Raises: ConfigError for a number that means nothing.
    """

    count: int = 5
    weight_decay: float = 0.05
    tolerance: float = 1e-3
    max_iterations: int = 100
    density_steps: int = 0
    density_probes: int = 2
    seed: int = 0
    data: str = "the batches as given"

    def __post_init__(self) -> None:
        least = {"count": 1, "max_iterations": 1, "density_steps": 0, "density_probes": 1}
        for name, bound in least.items():
            check_count(name, getattr(self, name), bound)
        check_number("weight_decay", self.weight_decay)
        check_number("tolerance", self.tolerance, 0)


def hessian_spectrum(
    model: nn.Module,
    loader: Iterable[Any],
    settings: HessianSettings | None = None,
    name: str = "model",
    on_step: OnStep = ignore,
) -> HessianResult:
    """The top eigenvalues of every mini-batch, and the spectral density of the first.

    Args:
        loader: yields (images, targets), each batch one loss.
        on_step: called after every batch with their number so far.
    Raises: AnalysisError.
    """
    settings = settings or HessianSettings()
    device, dtype = device_of(model)
    generator = torch.Generator().manual_seed(settings.seed)
    values, steps, done = [], [], []
    density: tuple[tuple[float, ...], tuple[float, ...], float | None] = ((), (), None)
    size = largest = 0
    batches = read_batches(loader, labelled=True, soft=True)
    with unchanged(model):
        for number, (images, targets) in enumerate(batches, start=1):
            x = images.to(device, dtype, copy=True)
            product, size = hessian_product(model, x, targets, settings.weight_decay)
            found = top_eigenvalues(
                product, size, settings.count, settings.tolerance, settings.max_iterations,
                generator,
            )  # fmt: skip
            values.append(found.eigenvalues)
            steps.append(found.iterations)
            done.append(found.converged)
            largest = max(largest, len(images))
            if number == 1 and settings.density_steps:
                density = _density(product, size, settings, generator)
            on_step(number)
    return HessianResult(
        name, _definition(settings), tuple(values), tuple(steps), tuple(done),
        sum(map(sum, done)) / sum(map(len, done)), settings.weight_decay, size, largest, *density,
    )  # fmt: skip


def _definition(settings: HessianSettings) -> str:
    return DEFINITION.format(
        count=settings.count,
        decay=settings.weight_decay,
        tolerance=settings.tolerance,
        limit=settings.max_iterations,
        data=settings.data,
    )


def _density(
    product: Product, size: int, settings: HessianSettings, generator: torch.Generator
) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    points, weights = spectral_density(
        product, size, settings.density_steps, settings.density_probes, generator
    )
    width = 0.01 * float(points.max() - points.min()) + 1e-12
    at = torch.linspace(float(points.min()), float(points.max()), 201, dtype=torch.float64)
    heights = smooth_density(points, weights, at, width)
    return tuple(at.tolist()), tuple(heights.tolist()), float(weights[points < 0].sum())


def plot_hessian(results: Sequence[HessianResult], path: str | Path) -> None:
    """Eigenvalues over batches as densities, and the spectral density where it was computed."""
    densities = [result for result in results if result.density]
    figure, cells = panels(1 + bool(densities), 2, 5.2, 3.4)
    _eigenvalue_densities(cells[0], results)
    if densities:
        _spectral_densities(cells[1], densities)
    legend_above(figure, columns=2)
    save(figure, path)


def _eigenvalue_densities(axes: Any, results: Sequence[HessianResult]) -> None:
    import numpy as np

    every = np.array([v for result in results for row in result.eigenvalues for v in row])
    low, high = every.min(), every.max()
    margin = 0.1 * (high - low) + 1e-9
    at = np.linspace(low - margin, high + margin, 300)
    for number, result in enumerate(results):
        values = np.array([v for row in result.eigenvalues for v in row])
        width = max(1.06 * values.std() * len(values) ** -0.2, 1e-3 * (high - low) + 1e-12)
        heights = np.exp(-0.5 * ((at[:, None] - values) / width) ** 2).mean(1)
        heights /= width * (2 * np.pi) ** 0.5
        style = series(number)
        axes.plot(
            at, heights, color=style["color"], ls=style["linestyle"], lw=1.5, label=_below(result)
        )
        axes.plot(
            values, np.full(len(values), -0.03 * (number + 1)), "|", color=style["color"], ms=6,
            transform=axes.get_xaxis_transform(), clip_on=False,
        )  # fmt: skip
    axes.axvline(0, color=INK, lw=0.7)
    axes.set_xlabel("top eigenvalues of mini-batches (ticks)", labelpad=6 + 4 * len(results))
    axes.tick_params(axis="x", pad=3 + 5 * len(results))
    axes.set_ylabel("density")
    axes.set_ylim(bottom=0)
    tidy(axes)


def _below(result: HessianResult) -> str:
    """What the legend says of a model: how much of its spectrum is negative, and whether the
    iterations converged.
    """
    text = f"{result.model}: {100 * result.negative_share:.0f} % of the top"
    if result.negative_mass is not None:
        text += f", {100 * result.negative_mass:.1f} % of all"
    text += " below 0"
    if result.converged_share < 1:
        text += f"; {100 * result.converged_share:.0f} % of the top converged"
    return text


def _spectral_densities(axes: Any, results: Sequence[HessianResult]) -> None:
    for number, result in enumerate(results):
        axes.plot(
            result.density_points, result.density, color=SERIES[number % len(SERIES)],
            ls=LINES[number % len(LINES)], lw=1.3,
        )  # fmt: skip
    axes.set_yscale("log")
    highest = max(max(result.density) for result in results)
    axes.set_ylim(1e-5, 10 * highest)
    axes.axvline(0, color=INK, lw=0.7)
    axes.set_xlabel("eigenvalue (all, one mini-batch)")
    axes.set_ylabel("spectral density (log)")
    tidy(axes)
