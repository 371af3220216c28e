"""Arguments as plain values: numbers of numpy become Python's, sequences tuples. Standard library
only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, get_type_hints

from ..errors import ConfigError
from .checked_json import JsonError, conform


def plain(value: Any) -> Any:
    """`value` with tuples for lists and arrays, and int and float for other kinds of number."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(plain(entry) for entry in value)
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def make_plain(settings: Any, what: str) -> None:
    """Every field of a frozen dataclass becomes plain, of its declared type and finite.

    Args: what: it is called in messages, e.g. "export spec".
    Raises: ConfigError.
    """
    for name, kind in get_type_hints(type(settings)).items():
        try:
            value = conform(kind, plain(getattr(settings, name)), name)
        except JsonError as error:
            raise ConfigError(f"{what}: {error}") from None
        for number in _floats(value):
            if not math.isfinite(number):
                raise ConfigError(f"{what}: {name} must be finite; got {number}")
        object.__setattr__(settings, name, value)


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, tuple):
        for entry in value:
            yield from _floats(entry)
