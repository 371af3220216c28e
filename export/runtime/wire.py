"""Read protobuf messages without the protobuf and onnx packages: tensors, and facts about a model.

Only what is needed to verify an export on a machine that has onnxruntime and nothing else
(protobuf.dev/programming-guides/encoding; onnx/onnx.proto names the fields). Every length is
checked against the bytes that are there.

Kept beside onnx, a base dependency, for its memory: walking a foreign file of 4 MiB that holds two
million empty nodes takes 1,350 MiB as an onnx.ModelProto, and less than 1 MiB here, field by field.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.errors import IntegrityError

Array = np.ndarray[Any, Any]

MAX_RANK = 8
MAX_FIELDS = 500_000  # of a model: about a second of reading
_MAX_DEPTH = 16  # of graphs inside attributes
_DTYPES = {
    1: "<f4", 2: "u1", 3: "i1", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8",
}  # fmt: skip
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _bad(why: str) -> IntegrityError:
    return IntegrityError(
        f"not a readable ONNX message: {why}; write the directory again", code="protobuf"
    )


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Fields of one message, in order: (number, value); bytes are views, not copies.

    Raises: IntegrityError if a length leaves the message or the encoding is not protobuf.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise _bad("field number 0")
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise _bad(f"wire type {kind}")
        if length > len(data) - at:
            raise _bad(f"a field of {length} bytes where {len(data) - at} are left")
        yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _bad("it ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at
    raise _bad("a number of more than 64 bits")


def _integers(value: int | memoryview) -> list[int]:
    """A repeated integer field: one value, or many packed into bytes."""
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(number)
    return found


def _view(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _bad("a number where a message belongs")
    return value


def _text(value: int | memoryview) -> str:
    try:
        return str(_view(value), "utf-8")
    except UnicodeDecodeError:
        raise _bad("a name that is not UTF-8") from None


def read_tensor(data: bytes) -> tuple[str, Array]:
    """Name and values of a serialized TensorProto that holds its own bytes.

    Raises: IntegrityError for anything else: other types, external data, sizes that do not fit.
    """
    dims: list[int] = []
    kind, name, raw = 0, "", None
    for number, value in fields(memoryview(data)):
        if number == 1:
            dims += _integers(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = _view(value)
        elif number in (3, 4, 5, 6, 7, 10, 11, 13, 14):
            raise _bad(f"tensor {name!r} does not hold its values as raw bytes")
    if kind not in _DTYPES or raw is None:
        held = "no" if raw is None else "raw"
        raise _bad(f"tensor {name!r} has data type {kind} and {held} data")
    if len(dims) > MAX_RANK or any(side >= 1 << 31 for side in dims):
        raise _bad(f"tensor {name!r} has the shape {dims[:MAX_RANK]}")
    dtype = np.dtype(_DTYPES[kind])
    if len(raw) != math.prod(dims) * dtype.itemsize:
        raise _bad(f"tensor {name!r} of shape {dims} has {len(raw)} bytes")
    return name, np.frombuffer(raw, dtype).reshape(dims).copy()


@dataclass(frozen=True)
class ModelFacts:
    """What a serialized ModelProto is made of.

    Args:
        ir_version: of the file format; 0 if it names none.
        opsets: version per operator domain ("" is ONNX's own).
        operators: (domain, operator) of every node, subgraphs and functions included.
        functions: (domain, name) of functions that the file defines itself.
        external: locations of external data, as written.
    """

    ir_version: int
    opsets: dict[str, int]
    operators: frozenset[tuple[str, str]]
    functions: frozenset[tuple[str, str]]
    external: tuple[str, ...]


@dataclass
class _Walk:
    """What was met on the way through a model, and how many fields may still be."""

    operators: set[tuple[str, str]] = field(default_factory=set)
    external: list[str] = field(default_factory=list)
    left: int = MAX_FIELDS

    def fields(self, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        for found in fields(data):
            self.left -= 1
            if self.left < 0:
                raise _bad(f"more than {MAX_FIELDS:,} fields, as no image model has")
            yield found


def read_model_facts(data: bytes) -> ModelFacts:
    """Facts about a serialized model, without loading it. Raises: IntegrityError."""
    version, graphs = 0, 0
    opsets: dict[str, int] = {}
    functions: set[tuple[str, str]] = set()
    walk = _Walk()
    for number, value in walk.fields(memoryview(data)):
        if number == 1 and isinstance(value, int):
            version = value
        elif number == 7:
            graphs += 1
            _read_graph(_view(value), walk, 0)
        elif number == 8:
            entry = dict(walk.fields(_view(value)))
            said = entry.get(2, 0)
            opsets[_text(entry.get(1, memoryview(b"")))] = said if isinstance(said, int) else 0
        elif number == 25:
            functions.add(_read_function(_view(value), walk))
    if not graphs:
        raise _bad("it holds no graph")
    return ModelFacts(
        version,
        opsets,
        frozenset(walk.operators),
        frozenset(functions),
        tuple(dict.fromkeys(walk.external)),
    )


def _read_graph(data: memoryview, walk: _Walk, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise _bad(f"graphs inside graphs, deeper than {_MAX_DEPTH}")
    for number, value in walk.fields(data):
        if number == 1:
            _read_node(_view(value), walk, depth)
        elif number == 5:
            walk.external += _locations(_view(value), walk)
        elif number == 15:  # sparse initialiser: values, indices
            for part, inner in walk.fields(_view(value)):
                walk.external += _locations(_view(inner), walk) if part in (1, 2) else []


def _read_node(data: memoryview, walk: _Walk, depth: int) -> None:
    operator, domain = "", ""
    for number, value in walk.fields(data):
        if number == 4:
            operator = _text(value)
        elif number == 7:
            domain = _text(value)
        elif number == 5:
            _read_attribute(_view(value), walk, depth)
    walk.operators.add(("" if domain == "ai.onnx" else domain, operator))


def _read_attribute(data: memoryview, walk: _Walk, depth: int) -> None:
    for number, value in walk.fields(data):
        if number in (5, 10):  # tensor, tensors
            walk.external += _locations(_view(value), walk)
        elif number in (6, 11):  # graph, graphs
            _read_graph(_view(value), walk, depth + 1)


def _read_function(data: memoryview, walk: _Walk) -> tuple[str, str]:
    name, domain = "", ""
    for number, value in walk.fields(data):
        if number == 1:
            name = _text(value)
        elif number == 10:
            domain = _text(value)
        elif number == 7:
            _read_node(_view(value), walk, 0)
    return domain, name


def _locations(tensor: memoryview, walk: _Walk) -> list[str]:
    """Where a tensor says that its bytes are, if not in the file itself."""
    found = []
    for number, value in walk.fields(tensor):
        if number == 13:
            entry = dict(walk.fields(_view(value)))
            if _text(entry.get(1, memoryview(b""))) == "location":
                found.append(_text(entry.get(2, memoryview(b""))))
    return found
