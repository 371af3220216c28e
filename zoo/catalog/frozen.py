"""Facts that stay as they are: their values are of the declared kinds, their mappings frozen.
Standard library only.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
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
    """The same value, lists as tuples and dicts as `FrozenDict`s, all the way in."""
    if isinstance(value, dict):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    return tuple(map(freeze, value)) if isinstance(value, list | tuple) else value


def settle(record: Any, what: str, code: str = "record") -> None:
    """Check and freeze the fields of a dataclass; called by its ``__post_init__``.

    Values become what their annotations declare, as those of a JSON file do (`conform`).

    Args: what: the record is called, for messages; code: of the error.
    Raises: ConfigError that names the field, what was expected and what was there.
    """
    cls: type = type(record)
    for name, kind in _kinds(cls).items():
        try:
            value = conform(kind, getattr(record, name), name)
        except JsonError as error:
            raise ConfigError(f"{what}: {error}", code=code) from None
        object.__setattr__(record, name, freeze(value))


@functools.cache
def _kinds(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}
