"""Facts and settings that stay as they are: their values are plain, of the declared kinds, and
their mappings frozen. Standard library only.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, NoReturn

from ..errors import ConfigError
from .checked_json import JsonError, conform


class FrozenDict(dict[str, Any]):
    """A mapping that cannot be changed. It is a dict for JSON, `asdict`, pickle and deep copies."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a record's facts cannot be changed; dict(...) makes a copy that can")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


def freeze(value: Any) -> Any:
    """The same value, lists and arrays as tuples, dicts as `FrozenDict`s and other kinds of number
    as int and float, all the way in.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(map(freeze, value))
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def settle(record: Any, what: str, code: str = "record") -> None:
    """Check and freeze the fields of a dataclass; called by its ``__post_init__``.

    Values become what their annotations declare, as those of a JSON file do (`conform`).

    Args: what: the record is called, for messages; code: of the error.
    Raises: ConfigError that names the field, what was expected and what was there; for NaN and
        infinity too.
    """
    cls: type = type(record)
    for name, kind in _kinds(cls).items():
        try:
            value = freeze(conform(kind, freeze(getattr(record, name)), name))
        except JsonError as error:
            raise ConfigError(f"{what}: {error}", code=code) from None
        for number in _floats(value):
            if not math.isfinite(number):
                raise ConfigError(f"{what}: {name} must be finite; got {number}", code=code)
        object.__setattr__(record, name, value)


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, tuple):
        for entry in value:
            yield from _floats(entry)


@functools.cache
def _kinds(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}
