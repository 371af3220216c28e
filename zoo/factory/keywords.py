"""Constructor keywords checked against the signature, before a model is built from them.

A constructor states what each keyword is: its annotation and its default. From these follow the
names that exist, the types, and the range: a count whose default is positive must be positive, so
must a ratio, and a rate is in [0, 1]. What depends on several keywords at once, the constructor
refuses itself.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import types
import typing
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from ..errors import ConfigError

# counts that may be zero although their default is not
_MAY_BE_ZERO = ("num_classes", "local_up_to_layer", "local_layers")
_POSITIVE = ("_ratio", "_ratios", "_mult", "_eps")
_NAMES = {int: "integer", float: "number", str: "string", bool: "true or false"}


def check_arguments(cls: type, config: Mapping[str, Any]) -> None:
    """Raise ConfigError unless every keyword exists and its value is of the kind it takes.

    An unknown keyword is answered with the nearest name.
    """
    known = _parameters(cls)
    for keyword, value in config.items():
        if keyword not in known:
            near = difflib.get_close_matches(keyword, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; it takes {', '.join(known)}"
            raise ConfigError(
                f"{cls.__name__} has no argument {keyword!r}{hint}", code="unknown_argument"
            )
        kinds, default = known[keyword]
        least = _least(keyword, default)
        if kinds and not any(_fits(value, kind, least) for kind in kinds):
            wanted = " or ".join(_describe(kind, least) for kind in kinds)
            raise ConfigError(f"{cls.__name__}: {keyword} must be {wanted}; got {value!r}")
        values = value if isinstance(value, list | tuple) else (value,)
        if keyword.endswith("_rate") and not all(0 <= v <= 1 for v in values):
            raise ConfigError(f"{cls.__name__}: {keyword} must be in [0, 1]; got {value!r}")
        if keyword.endswith(_POSITIVE) and not all(v > 0 for v in values):
            raise ConfigError(f"{cls.__name__}: {keyword} must be positive; got {value!r}")


@functools.cache
def _parameters(cls: type) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """Keyword -> (alternatives of its type, default)."""
    hints = typing.get_type_hints(cls.__init__)
    found = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        hint = hints.get(name)
        union = typing.get_origin(hint) in (types.UnionType, typing.Union)
        kinds = typing.get_args(hint) if union else (hint,) if hint is not None else ()
        found[name] = (kinds, parameter.default)
    return found


def _least(keyword: str, default: Any) -> int:
    values = default if isinstance(default, tuple) else (default,)
    counts = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
    positive = bool(counts) and min(counts) > 0 and keyword not in _MAY_BE_ZERO
    return 1 if positive else 0


def _fits(value: Any, kind: Any, least: int) -> bool:
    origin = typing.get_origin(kind)
    if origin in (tuple, Sequence):
        inner = [arg for arg in typing.get_args(kind) if arg is not Ellipsis]
        fixed = len(inner) if origin is tuple and Ellipsis not in typing.get_args(kind) else 0
        if not isinstance(value, list | tuple) or (fixed and len(value) != fixed):
            return False
        return all(_fits(entry, inner[0], least) for entry in value)
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool) and value >= least
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) if isinstance(kind, type) else True


def _describe(kind: Any, least: int) -> str:
    if kind is types.NoneType:
        return "none"
    args = typing.get_args(kind)
    if args:
        many = f"{len(args)} " if Ellipsis not in args and len(args) > 1 else ""
        sign = "positive " if args[0] is int and least else ""
        plural = {bool: "values true or false"}.get(args[0], f"{_NAMES[args[0]]}s")
        return f"a list of {many}{sign}{plural}"
    if kind is int:
        return "a positive integer" if least else "an integer, at least 0"
    return _NAMES[kind] if kind is bool else f"a {_NAMES.get(kind, kind.__name__)}"
