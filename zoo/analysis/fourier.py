"""Fourier analysis of feature maps: relative log amplitudes over depth.

Park & Kim, *How Do Vision Transformers Work?*, arXiv:2202.06709, figure 2a; definition of
how-do-vits-work `fourier_analysis.ipynb`. Where we differ: the frequency axis is the true one (for
a map of even side h the last entry is (1 - 2/h) pi, not pi), and maps need not be square.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ._estimates import Estimate
from ._features import OnStep, ignore, measure_maps
from ._results import Result
from .units import Unit

DEFINITION = (
    "log(|FFT2(map)| + 1e-6), shifted, mean over images and channels, along the diagonal from "
    "frequency 0 upwards, minus its value at frequency 0; natural logarithm. The high-frequency "
    "value is the last entry."
)
_EPS = 1e-6


def log_amplitudes(maps: Tensor) -> Tensor:
    """log|FFT2| along the half diagonal, mean over channels: (B, C, h, w) -> (B, min(h, w) -
    int(min(h, w) / 2)).

    Entry k is frequency 2 k / min(h, w) in units of pi; a side that is longer is read at the same
    frequencies.
    """
    height, width = maps.shape[2:]
    side = min(height, width)
    steps = torch.arange(side - side // 2, device=maps.device)
    rows, columns = ((steps * length / side).round().long() for length in (height, width))
    amplitudes = torch.fft.fft2(maps.to(torch.promote_types(maps.dtype, torch.float32))).abs()
    # Entry int(h/2) + k of the shifted spectrum is -int(h/2) + int(h/2) + k = k of the plain one.
    return (amplitudes[:, :, rows, columns] + _EPS).log().mean(1)


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
        from .plots.depth import plot_fourier

        plot_fourier([self], path)


def fourier_analysis(
    model: nn.Module,
    loader: Iterable[Any],
    units: Sequence[Unit] | None = None,
    name: str = "model",
    on_step: OnStep = ignore,
) -> FourierResult:
    """Relative log amplitudes of every unit's feature map.

    Args: model, loader, units, on_step: see `measure_maps`.
    Raises: AnalysisError.
    """
    spectra: list[UnitSpectrum] = []
    for unit, moments in measure_maps(model, loader, _curves, units, on_step).items():
        *curve, side = moments.estimates()
        amplitudes = tuple(entry.mean for entry in curve)
        before = spectra[-1] if spectra else None
        same = before is not None and before.amplitudes[1:] and len(before.amplitudes) == len(curve)
        change = curve[-1].mean - before.high_frequency.mean if before and same else None
        axis = frequencies(len(curve), round(side.mean))
        spectra.append(UnitSpectrum(unit.name, unit.kind, axis, amplitudes, curve[-1], change))
    return FourierResult(name, DEFINITION, tuple(spectra))


def _curves(maps: Tensor) -> Tensor:
    """The curve of every image, and behind it the shorter side of the map."""
    rows = log_amplitudes(maps)
    side = torch.full_like(rows[:, :1], min(maps.shape[2:]))
    return torch.cat([rows - rows[:, :1], side], dim=1)
