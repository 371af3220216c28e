"""Guards for what callers hand over: counts, numbers, lists, models. One for each kind of thing."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any

from ..errors import ConfigError, ZooError, suggestion


def check_count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number, of numpy and torch too. Args: name: what it counts, for the message.

    Raises: ConfigError for another number, or none.
    """
    try:
        number = operator.index(value)
    except (TypeError, RuntimeError):
        number = None
    if number is None or isinstance(value, bool):
        raise ConfigError(f"{name} must be a whole number, at least {least}; got {value!r}")
    if number < least:
        raise ConfigError(f"{name} must be at least {least}; got {number}")
    if most is not None and number > most:
        raise ConfigError(f"{name} must be at most {most}; got {number}")
    return number


def check_number(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number. Raises: ConfigError for another, or none."""
    number = math.nan
    if hasattr(value, "__float__") and not isinstance(value, bool):
        number = float(value)
    if not (math.isfinite(number) and least <= number <= most):
        where = f" from {least:g} to {most:g}" if math.isfinite(most) else ""
        where = where or (f", at least {least:g}" if math.isfinite(least) else "")
        raise ConfigError(f"{name} must be a finite number{where}; got {value!r}")
    return number


def check_choice(name: str, value: Any, known: Iterable[str]) -> None:
    """One of the known words. Raises: ConfigError for another."""
    words = list(known)
    if value not in words:
        near = suggestion(value, words) if isinstance(value, str) else ""
        raise ConfigError(f"{name} must be one of {', '.join(words)}; got {value!r}{near}")


def check_list(name: str, value: Any) -> tuple[Any, ...]:
    """Several things. Raises: ConfigError for one word, which would be read letter by letter, or
    for one thing.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ConfigError(f"{name} must be a list or tuple; got {value!r}: write [{value!r}]")
    return tuple(value)


def check_pair(name: str, value: Any, what: str) -> tuple[Any, Any]:
    """Two things. Args: what: they are, for the message. Raises: ConfigError."""
    found = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else ()
    if len(found) != 2:
        raise ConfigError(f"{name} must be two numbers ({what}); got {value!r}")
    return found[0], found[1]


def check_model(model: Any, error: type[ZooError] = ConfigError) -> None:
    """Raise `error` for what is no model of torch, such as the name of one."""
    from torch import nn

    if not isinstance(model, nn.Module):
        shown = repr(model) if isinstance(model, str) else type(model).__name__
        name = model if isinstance(model, str) else "NAME"
        raise error(
            f"expected a model (torch.nn.Module); got {shown[:80]}: pass "
            f"zoo.create_model({name[:80]!r}, pretrained=True)"
        )
