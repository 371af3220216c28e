"""Figures of the loss: landscapes as surface and contours, Hessian spectra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .style import INK, LINES, SERIES, new_figure, panels, save, series, tidy

if TYPE_CHECKING:
    from ..hessian import HessianResult
    from ..landscape_grid import LandscapeResult


def plot_landscape(results: Sequence[LandscapeResult], path: str | Path) -> None:
    """Per model: the NLL as a surface and as contours, the L2 term, and both together."""
    import numpy as np

    figure = new_figure(11.0, 2.7 * len(results))
    for row, result in enumerate(results):
        side = result.count
        table = {
            key: np.array([getattr(point, key) for point in result.points]).reshape(side, side)
            for key in ("x", "y", "nll", "half_squares")
        }
        x, y, nll = table["x"], table["y"], table["nll"]
        nll = np.where(np.isfinite(nll), nll, np.nanmax(nll[np.isfinite(nll)]))
        l2 = result.weight_decay * table["half_squares"]
        surface = figure.add_subplot(len(results), 4, 4 * row + 1, projection="3d")
        surface.plot_surface(x, y, nll, cmap="viridis", linewidth=0.2, edgecolor="#00000030")
        surface.set_title(f"{result.model}\nNLL", fontsize=8, pad=0)
        surface.set_xlabel("x", labelpad=-8)
        surface.set_ylabel("y", labelpad=-8)
        surface.tick_params(labelsize=6, pad=-3)
        ends = (-result.extent, 0, result.extent)
        surface.set_xticks(ends)
        surface.set_yticks(ends)
        decay = f"{result.weight_decay:g}"
        plots = ((nll, "NLL (nats)"), (l2, f"L2 term, {decay}/2 Σw²"), (nll + l2, "NLL + L2"))
        for column, (values, title) in enumerate(plots, start=2):
            axes = figure.add_subplot(len(results), 4, 4 * row + column)
            _contours(axes, x, y, values, title)
    save(figure, path)


def _contours(axes: Any, x: Any, y: Any, values: Any, title: str) -> None:
    low, high = float(values.min()), float(values.max())
    levels = 12 if high > low else [low - 1, low + 1]
    filled = axes.contourf(x, y, values, levels=levels, cmap="viridis")
    axes.contour(x, y, values, levels=levels, colors="white", linewidths=0.4)
    axes.figure.colorbar(filled, ax=axes, shrink=0.85)
    axes.plot([0], [0], marker="+", color="white", ms=9, mew=1.6)
    axes.set_xlabel("x (coefficient of direction 1)")
    axes.set_ylabel("y (direction 2)")
    axes.set_title(title)
    axes.set_aspect("equal")


def plot_hessian(results: Sequence[HessianResult], path: str | Path) -> None:
    """Eigenvalues over batches as densities, and the spectral density where it was computed."""
    densities = [result for result in results if result.density]
    figure, cells = panels(1 + bool(densities), 2, 5.2, 3.4)
    _eigenvalue_densities(cells[0], results)
    if densities:
        _spectral_densities(cells[1], densities)
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
        label = f"{result.model}: {100 * result.negative_share:.0f} % negative"
        axes.plot(at, heights, color=style["color"], ls=style["linestyle"], lw=1.5, label=label)
        axes.plot(
            values, np.full(len(values), -0.03 * (number + 1)), "|", color=style["color"], ms=6,
            transform=axes.get_xaxis_transform(), clip_on=False,
        )  # fmt: skip
    axes.axvline(0, color=INK, lw=0.7)
    axes.set_xlabel("top eigenvalues of mini-batches (ticks)", labelpad=6 + 4 * len(results))
    axes.tick_params(axis="x", pad=3 + 5 * len(results))
    axes.set_ylabel("density")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    tidy(axes)


def _spectral_densities(axes: Any, results: Sequence[HessianResult]) -> None:
    for number, result in enumerate(results):
        axes.plot(
            result.density_points, result.density, color=SERIES[number % len(SERIES)],
            ls=LINES[number % len(LINES)], lw=1.3,
            label=f"{result.model}: {100 * (result.negative_mass or 0):.1f} % below 0",
        )  # fmt: skip
    axes.set_yscale("log")
    highest = max(max(result.density) for result in results)
    axes.set_ylim(1e-5, 10 * highest)
    axes.axvline(0, color=INK, lw=0.7)
    axes.set_xlabel("eigenvalue (all, one mini-batch)")
    axes.set_ylabel("spectral density (log)")
    axes.legend(frameon=False)
    tidy(axes)
