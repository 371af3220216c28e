"""What every analysis returns: numbers, the definition they follow, JSON, rows, a picture."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from ._estimates import rounded


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
