"""Fourier analysis of feature maps: relative log amplitudes over depth.

Park & Kim, *How Do Vision Transformers Work?*, arXiv:2202.06709, figure 2a; definition of
how-do-vits-work `fourier_analysis.ipynb`. Where we differ: the frequency axis is the true one (for
a map of even side h the last entry is (1 - 2/h) pi, not pi), and maps need not be square.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AnalysisError
from ..evaluation.outcomes import is_textbook
from ._features import OnStep, ignore, measure_maps
from ._figure import KIND_MARKERS, _along_depth, kind_legend, panels, save, tidy
from ._results import Estimate, Result
from ._units import Unit

DEFINITION = (
    "log(|FFT2(map)| + 1e-6), shifted, mean over images and channels, along the diagonal from "
    "frequency 0 upwards, minus its value at frequency 0; natural logarithm. The high-frequency "
    "value is the last entry."
)
_EPS = 1e-6


def log_amplitudes(maps: Tensor, definition: str = "textbook") -> Tensor:
    """log|FFT2| along the half diagonal, mean over channels: (B, C, h, w) -> (B, min(h, w) -
    int(min(h, w) / 2)).

    Entry k is frequency 2 k / min(h, w) in units of pi; a side that is longer is read at the same
    frequencies. "how-do-vits-work" reads a map that is not square at the same index on both axes
    of the shifted spectrum, from int(h/2) on: min(h, w) - int(h/2) entries.
    Raises: ConfigError; AnalysisError for a map in which that reading finds nothing.
    """
    rows, columns = _diagonal(maps.shape[2], maps.shape[3], definition)
    amplitudes = torch.fft.fft2(maps.to(torch.promote_types(maps.dtype, torch.float32))).abs()
    # Entry int(h/2) + k of the shifted spectrum is -int(h/2) + int(h/2) + k = k of the plain one.
    return (amplitudes[:, :, rows, columns] + _EPS).log().mean(1)


def _diagonal(height: int, width: int, definition: str) -> tuple[Tensor, Tensor]:
    """Rows and columns of the plain spectrum, from the middle of the shifted one outwards."""
    side = min(height, width)
    if is_textbook(definition):
        steps = torch.arange(side - side // 2)
        return (steps * height / side).round().long(), (steps * width / side).round().long()
    if height // 2 >= side:
        raise AnalysisError(
            f"how-do-vits-work's diagonal does not reach the middle of a map of {height} x "
            f'{width}; use definition="textbook"'
        )
    steps = torch.arange(height // 2, side)
    return (steps - height // 2) % height, (steps - width // 2) % width


def frequencies(count: int, side: int) -> tuple[float, ...]:
    """Frequencies of the entries, in units of pi, for maps whose shorter side is `side`."""
    return tuple(2 * k / side for k in range(count))


@dataclass(frozen=True)
class UnitSpectrum:
    """Relative log amplitudes of one unit.

    Args:
        name, kind: of the unit.
        frequencies: in units of pi.
        amplitudes: relative to frequency 0, natural logarithm, mean over images and channels.
        high_frequency: the last of them, with its interval over images.
        change: high frequencies gained since the unit before; None for the first, and where the
            size of the map changes, because the last frequency is another one then.
    """

    name: str
    kind: str
    frequencies: tuple[float, ...]
    amplitudes: tuple[float, ...]
    high_frequency: Estimate
    change: float | None


@dataclass(frozen=True)
class FourierResult(Result):
    """Spectra of all units, in the order of execution."""

    units: tuple[UnitSpectrum, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": self.model,
                "unit": unit.name,
                "kind": unit.kind,
                "high_frequency": unit.high_frequency.mean,
                "low": unit.high_frequency.low,
                "high": unit.high_frequency.high,
                "change": unit.change,
            }
            for unit in self.units
        ]

    def plot(self, path: str | Path) -> None:

        plot_fourier([self], path)


def fourier_analysis(
    model: nn.Module,
    loader: Iterable[Any],
    units: Sequence[Unit] | None = None,
    name: str = "model",
    on_step: OnStep = ignore,
    definition: str = "textbook",
) -> FourierResult:
    """Relative log amplitudes of every unit's feature map.

    Args: model, loader, units, on_step: see `measure_maps`; definition: see `log_amplitudes`.
    Raises: AnalysisError, ConfigError.
    """
    spectra: list[UnitSpectrum] = []
    curves = partial(_curves, definition=definition)
    for unit, moments in measure_maps(model, loader, curves, units, on_step, ordered=True).items():
        *curve, side = moments.estimates()
        amplitudes = tuple(entry.mean for entry in curve)
        before = spectra[-1] if spectra else None
        same = before is not None and before.amplitudes[1:] and len(before.amplitudes) == len(curve)
        change = curve[-1].mean - before.high_frequency.mean if before and same else None
        axis = frequencies(len(curve), round(side.mean))
        spectra.append(UnitSpectrum(unit.name, unit.kind, axis, amplitudes, curve[-1], change))
    return FourierResult(name, DEFINITION, tuple(spectra))


def _curves(maps: Tensor, definition: str) -> Tensor:
    """The curve of every image, and behind it the shorter side of the map."""
    rows = log_amplitudes(maps, definition)
    side = torch.full_like(rows[:, :1], min(maps.shape[2:]))
    return torch.cat([rows - rows[:, :1], side], dim=1)


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
    kind_legend(figure, [unit.kind for result in results for unit in result.units])
    save(figure, path)


def _shades(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis"](0.92 * i / max(1, count - 1)) for i in range(count)]
