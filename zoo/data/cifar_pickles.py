"""The pickles of the CIFAR archives, read as data: dictionaries, lists, text, integers and uint8
arrays.

Nothing is imported and nothing is called: the opcodes are followed on a stack of our own, and of
all names a pickle can ask for, the four that describe a numpy array are understood as such a
description. Everything else is refused.
"""

from __future__ import annotations

import io
import math
import pickletools
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DatasetError

MAX_OPCODES = 500_000  # the largest file, CIFAR-100, needs half of them
MAX_DEPTH = 8  # of tuples, lists and dictionaries within each other

_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_ALLOWED = (*_RECONSTRUCT, "numpy ndarray", "numpy dtype")
_LITERALS = {"BININT", "BININT1", "BININT2", "SHORT_BINSTRING", "BINSTRING", "BINUNICODE"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_SHORT_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Name:
    text: str


@dataclass
class _Described:
    """An object that a name and arguments describe, and the state set on it."""

    name: str
    arguments: tuple[Any, ...]
    state: tuple[Any, ...] = field(default=())


def read_table(data: bytes, what: str) -> dict[str, Any]:
    """The dictionary that a CIFAR file holds: key -> list, text, integer, or uint8 array.

    Args:
        what: what error messages call the file.
    Raises: DatasetError with code "unsafe_code" if it asks for anything else, "damaged" if it is
        cut short or malformed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickletools warns of odd escapes in damaged text
            value = _follow(data, what)
        if not isinstance(value, dict):
            raise ValueError("it holds no dictionary")
        return {str(key): _array(item) if _is_array(item) else item for key, item in value.items()}
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(
            f"{what} is no intact CIFAR file ({str(error)[:80]}); download it again", code="damaged"
        ) from None


def _follow(data: bytes, what: str) -> Any:
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[int, Any] = {}
    steps: Iterable[tuple[Any, Any, Any]] = pickletools.genops(io.BytesIO(data))
    for count, (opcode, argument, _) in enumerate(steps):
        name = opcode.name
        if count >= MAX_OPCODES or len(marks) > MAX_DEPTH:
            raise ValueError("it has too many steps")
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _SHORT_TUPLES:
            kept = len(stack) - _SHORT_TUPLES[name]
            stack[kept:] = [tuple(stack[kept:])]
        elif name == "MARK":
            marks.append(stack)
            stack = []
        elif name in ("TUPLE", "APPENDS", "SETITEMS"):
            items, stack = stack, marks.pop()
            _collect(name, stack, items)
        elif name in ("APPEND", "SETITEM"):
            split = len(stack) - (1 if name == "APPEND" else 2)
            items = stack[split:]
            del stack[split:]
            _collect(f"{name}S", stack, items)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "STOP":
            return stack.pop()
        else:
            _describe(name, argument, stack, what)
    raise ValueError("it has no end")


def _collect(name: str, stack: list[Any], items: list[Any]) -> None:
    """Put `items` into a new tuple, or into the list or dictionary on top of the stack."""
    if name == "TUPLE":
        stack.append(tuple(items))
    elif name == "APPENDS" and type(stack[-1]) is list:
        stack[-1].extend(items)
    elif name == "SETITEMS" and type(stack[-1]) is dict and len(items) % 2 == 0:
        if not all(isinstance(key, str) for key in items[::2]):
            raise ValueError("it has keys other than text")
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    else:
        raise ValueError(f"{name} has nothing to add to")


def _describe(name: str, argument: Any, stack: list[Any], what: str) -> None:
    """Containers, and descriptions of arrays; anything else ends the reading."""
    if name == "PROTO":
        return
    if name in ("EMPTY_DICT", "EMPTY_LIST"):
        stack.append({} if name == "EMPTY_DICT" else [])
    elif name == "GLOBAL" and argument in _ALLOWED:
        stack.append(_Name(argument))
    elif name == "REDUCE" and isinstance(stack[-2], _Name) and isinstance(stack[-1], tuple):
        arguments, function = stack.pop(), stack.pop()
        stack.append(_Described(function.text, arguments))
    elif name == "BUILD" and isinstance(stack[-2], _Described) and isinstance(stack[-1], tuple):
        described = stack[-2]
        described.state = stack.pop()
    else:
        asked = f"{name} {ascii(argument)[1:-1]}" if isinstance(argument, str) else name
        raise DatasetError(
            f"{what} asks for more than lists, text and arrays ({asked[:60]}); it was refused and "
            "nothing of it was run. Get the archive from www.cs.toronto.edu/~kriz/cifar.html",
            code="unsafe_code",
        )


def _is_array(value: Any) -> bool:
    return isinstance(value, _Described) and value.name in _RECONSTRUCT


def _array(value: _Described) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The uint8 array of a description ``(version, shape, dtype, is_fortran, bytes)``."""
    _, shape, dtype, fortran, content = value.state
    if not isinstance(dtype, _Described) or dtype.name != "numpy dtype":
        raise ValueError("an array has no dtype")
    if dtype.arguments[0] not in ("u1", "|u1") or fortran is not False:
        raise ValueError("an array is not uint8 in row order")
    data = content.encode("latin-1")
    if not all(type(side) is int and side >= 0 for side in shape) or math.prod(shape) != len(data):
        raise ValueError("an array is cut short")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
