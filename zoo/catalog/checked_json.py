"""JSON from elsewhere: bounded while it is read, then checked against declared types. Standard
library only.

A `Document` says once what a kind of file holds, by the annotations of a TypedDict or a dataclass;
whoever reads such a file gets exactly that, or one typed error that names the key, what was
expected and what was there. A TypedDict allows further keys, a dataclass does not.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import types
import typing
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from ..errors import ConfigError, ZooError, suggestion
from .regular_files import read_regular_file

MAX_BYTES = 16 << 20  # three lists of 21,843 names of classes and more fit
MAX_NESTING = 32
MAX_INTEGER = 2**63 - 1

T = TypeVar("T")
_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
_NAMES |= {types.NoneType: "null", list: "a list", dict: "an object"}


class JsonError(ValueError):
    """Text that is not JSON within bounds, or a value of another kind than declared."""


@dataclass(frozen=True)
class Document(Generic[T]):
    """One kind of JSON file.

    Args:
        kind: what it holds: a TypedDict, a dataclass, or e.g. ``list[str]``.
        what: it is called in messages, e.g. "lock file of pins".
        code: of the error that is raised.
        advice: what to do about a bad one.
        error: class of that error.
        max_bytes: a larger one is refused before it is parsed.
    """

    kind: type[T]
    what: str
    code: str
    advice: str = "write it again"
    error: type[ZooError] = ConfigError
    max_bytes: int = MAX_BYTES

    def read(self, path: str | os.PathLike[str]) -> T:
        """The content of a file. Raises: what `parse` and `read_regular_file` raise."""
        return self.parse(read_regular_file(path, self.what, self.max_bytes), os.fspath(path))

    def parse(self, data: bytes | str, name: str) -> T:
        """The content of JSON text; `name` is the file's, for messages. Raises: `error`."""
        try:
            value = parse_json(data, self.max_bytes)
        except JsonError as error:
            raise self.refusal(name, str(error)) from None
        return self.check(value, name)

    def check(self, value: object, name: str) -> T:
        """Values that were decoded elsewhere, e.g. from TOML. Raises: `error`."""
        try:
            found: T = conform(self.kind, value)
        except JsonError as error:
            raise self.refusal(name, str(error)) from None
        return found

    def refusal(self, name: str, why: str) -> ZooError:
        """The error about the file `name`, for what types cannot say."""
        return self.error(f"{_tail(name)} is no {self.what}: {why}; {self.advice}", code=self.code)


def parse_json(data: bytes | str, max_bytes: int = MAX_BYTES) -> Any:
    """Decode JSON text: UTF-8, finite numbers, integers of 64 bits, no key twice, nesting of at
    most `MAX_NESTING`, text that UTF-8 can hold.

    Raises: JsonError.
    """
    if len(data) > max_bytes:
        raise JsonError(f"it has {len(data)} bytes, at most {max_bytes} are read")
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        value = _DECODER.decode(text)
    except JsonError:
        raise
    except UnicodeDecodeError as error:
        raise JsonError(f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise JsonError(f"it is nested deeper than {MAX_NESTING}") from None
    _check_nesting(value)
    if "\\u" in text or isinstance(data, str):
        _check_text(value)
    return value


def _integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > MAX_INTEGER:
        raise JsonError(f"the integer {text[:20]}… is beyond 64 bits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonError(f"the number {text[:20]} is beyond what a double holds")
    return value


def _constant(text: str) -> float:
    raise JsonError(f"{text} is no number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise JsonError(f"the key {shown(max(counts, key=counts.__getitem__))} stands there twice")
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_constant,
)


def _check_nesting(value: object) -> None:
    level: list[object] = [value]
    for _ in range(MAX_NESTING):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise JsonError(f"it is nested deeper than {MAX_NESTING}")


def _children(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _check_text(value: object) -> None:
    """Escapes can spell halves of surrogate pairs, which no file and no terminal takes."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise JsonError("a text holds half a surrogate pair") from None


def conform(kind: Any, value: object, where: str = "") -> Any:
    """`value` as the declared type `kind`: lists become tuples and objects dataclasses where it
    says so.

    Args:
        where: the path of the value inside its document, for messages.
    Raises: JsonError.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or kind is object:
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of(args, value, where)
    if origin is typing.Literal:
        return value if value in args else _refuse(kind, value, where)
    if typing.is_typeddict(kind):
        return _typed_dict(kind, value, where)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else _built(kind, value, where)
    plain = origin or kind
    if plain in (list, tuple, Sequence):
        return _sequence(kind, plain, args, value, where)
    if plain in (dict, Mapping):
        if not isinstance(value, Mapping):
            _refuse(kind, value, where)
        of = args[1] if args else Any
        return {key: conform(of, v, _inside(where, key)) for key, v in value.items()}
    good = isinstance(value, (int, float) if kind is float else kind)
    if not good or (isinstance(value, bool) and kind is not bool):
        _refuse(kind, value, where)
    return value


def _one_of(kinds: tuple[Any, ...], value: object, where: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not types.NoneType]
    if len(others) == 1:
        return conform(others[0], value, where)
    for kind in others:
        try:
            return conform(kind, value, where)
        except JsonError:
            continue
    _refuse(typing.Union[kinds], value, where)  # noqa: UP007 (built from values)


def _sequence(kind: Any, plain: Any, args: tuple[Any, ...], value: object, where: str) -> Any:
    if not isinstance(value, list | tuple):
        _refuse(kind, value, where)
    fixed = plain is tuple and args and Ellipsis not in args
    if fixed and len(value) != len(args):
        raise JsonError(f"{where or 'it'} must have {len(args)} entries; got {len(value)}")
    kinds = args if fixed else ((args[0] if args else Any),) * len(value)
    found = [
        conform(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True))
    ]
    return tuple(found) if plain is tuple else found


def _typed_dict(kind: Any, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        _refuse(dict, value, where)
    _require(sorted(kind.__required_keys__), value, where)
    hints = _hints(kind)
    return {
        key: conform(hints.get(key, Any), item, _inside(where, key)) for key, item in value.items()
    }


def _built(kind: type, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        _refuse(dict, value, where)
    hints = _hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for key in value:
        if key not in fields:
            hint = suggestion(key, fields) or f"; it holds {', '.join(fields)[:80]}"
            raise JsonError(f"{_inside(where, key)} is unknown{hint}")
    nothing = dataclasses.MISSING
    _require(
        (n for n, f in fields.items() if f.default is nothing and f.default_factory is nothing),
        value,
        where,
    )
    values = {key: conform(hints[key], item, _inside(where, key)) for key, item in value.items()}
    try:
        return kind(**values)
    except ZooError:
        raise
    except ValueError as error:
        raise JsonError(f"{where or 'it'} is refused: {error}") from None


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _require(keys: Iterable[str], value: Mapping[str, object], where: str) -> None:
    missing = next((key for key in keys if key not in value), None)
    if missing is not None:
        raise JsonError(f"{_inside(where, missing)} is missing")


def _refuse(kind: Any, value: object, where: str) -> NoReturn:
    raise JsonError(f"{where or 'it'} must be {_described(kind)}; got {shown(value)}")


def _described(kind: Any) -> str:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_described(entry) for entry in args)
    if origin is typing.Literal:
        return " or ".join(map(repr, args))
    if origin in (list, tuple, Sequence) and args:
        return f"a list of {_NAMES.get(args[0], 'an object').partition(' ')[2]}s"
    if typing.is_typeddict(kind) or dataclasses.is_dataclass(kind) or origin in (dict, Mapping):
        return _NAMES[dict]
    return _NAMES.get(kind, str(kind))


def shown(value: object) -> str:
    """A value for a message, as JSON where it is, at most 40 characters."""
    if isinstance(value, dict):
        return f"{_NAMES[dict]} of {len(value)}"
    flat = isinstance(value, tuple) and not any(isinstance(v, dict | list | tuple) for v in value)
    if isinstance(value, list | tuple) and not flat:
        return f"{_NAMES[list]} of {len(value)}"
    text = ascii(value[:60]) if isinstance(value, str) else str(value)[:60]
    text = {"None": "null", "True": "true", "False": "false"}.get(text, text)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _inside(where: str, key: Any) -> str:
    if not isinstance(key, str):
        raise JsonError(f"{where or 'it'} has the key {shown(key)}; keys are texts")
    name = key if key.isidentifier() else ascii(key)
    return f"{where}.{name[:40]}" if where else name[:40]


def _tail(name: str) -> str:
    return name if len(name) <= 100 else f"…{name[-99:]}"
