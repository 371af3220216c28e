"""What every analysis returns: numbers, the definition they follow, JSON, rows, a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Result:
    """Root of the results.

    Args:
        model: name of the model, for legends.
        definition: what was computed, in words.
    """

    model: str
    definition: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values; numbers with six significant digits."""
        return {entry.name: _json(getattr(self, entry.name)) for entry in fields(self)}

    def rows(self) -> list[dict[str, Any]]:
        """The main table, one dict for each line."""
        raise NotImplementedError

    def plot(self, path: str | Path) -> None:
        """Draw into a .png or .svg. Raises: MissingDependencyError without matplotlib."""
        raise NotImplementedError


def _json(value: Any) -> Any:
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, dict):
        return {str(key): _json(entry) for key, entry in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "to_dict"):
            return _json(value.to_dict())
        return {entry.name: _json(getattr(value, entry.name)) for entry in fields(value)}
    return [_json(entry) for entry in value]


Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Estimate:
    """A mean over images with the 95 % interval of its sampling error (normal approximation)."""

    mean: float
    low: float
    high: float
    count: int


class Moments:
    """Running mean and variance of rows. `add` takes (n, ...), a value or vector for each image.

    Sums are kept in float64, shifted by the first row, so that large means cost no digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shift = self._sum = self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """Count rows in."""
        rows = rows.detach().to("cpu", torch.float64)
        if self.count == 0:
            self._shift = rows[0].clone()
            self._sum, self._squares = torch.zeros_like(rows[0]), torch.zeros_like(rows[0])
        rows = rows - self._shift
        self.count += len(rows)
        self._sum = self._sum + rows.sum(0)
        self._squares = self._squares + rows.square().sum(0)

    @property
    def mean(self) -> Tensor:
        """Mean of the rows, float64."""
        return self._shift + self._sum / max(self.count, 1)

    @property
    def variance(self) -> Tensor:
        """Unbiased variance; 0 for a single row."""
        n = self.count
        spread = self._squares - self._sum.square() / max(n, 1)
        return (spread / max(n - 1, 1)).clamp(min=0)

    def estimates(self) -> list[Estimate]:
        """Mean and interval of every entry, flattened."""
        half = Z95 * (self.variance / max(self.count, 1)).sqrt()
        pairs = zip(self.mean.flatten().tolist(), half.flatten().tolist(), strict=True)
        return [Estimate(mean, mean - h, mean + h, self.count) for mean, h in pairs]


def rounded(value: float) -> float | None:
    """`value` with six significant digits; None, JSON's null, if it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
