"""What a pickle holds, found out without running it. No torch, and nothing is ever imported.

`scan` follows the opcodes of all protocols on an abstract stack: names stay names, calls are not
made, tensors are descriptions of views into storages. What it returns is all that is ever read of a
pickle, so that no class and no function of anybody takes part; `verdict.judge` says whether it is
accepted.
"""

from __future__ import annotations

import io
import math
import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Collection
from typing import Any

from ..safetensors_file import MAX_RANK
from .values import (
    BY_PLACE,
    GETATTR,
    HANDED_ON,
    OF_NO_PLAIN_TENSOR,
    ORDERED,
    PARAMETERS,
    PLAIN_TYPES,
    STORAGES,
    TENSOR,
    TORCH_FUNCTIONS,
    WITH_ATTRIBUTES,
    Made,
    Name,
    Report,
    Storage,
    View,
)

MAX_OPCODES = 500_000  # some 12,000 tensors
_MAX_PARTS = 10 * MAX_OPCODES  # that calls take together: one memory may be handed to many
_MAX_MEMO = 2**32  # larger numbers can be chosen to collide in a table


def scan(stream: io.BytesIO, report: Report) -> Report:
    """Follow one pickle from the stream's position to its end.

    Raises: ValueError and its relatives if it is malformed.
    """
    machine = _Machine(report)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count >= MAX_OPCODES:
            raise ValueError(f"it has more than {MAX_OPCODES} steps")
        machine.step(opcode.name, argument)
    return report


_LITERALS = frozenset(
    "INT LONG LONG1 LONG4 BININT BININT1 BININT2 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_TUPLE": "tuple", "EMPTY_LIST": "list", "EMPTY_DICT": "dict", "EMPTY_SET": "set"}
_OF_MARK = {"TUPLE": "tuple", "LIST": "list", "DICT": "dict", "FROZENSET": "set"}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack, and what each opcode does to it."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.parts = 0

    def step(self, opcode: str, argument: Any) -> None:
        """Follow one opcode. Raises: ValueError for one of which no checkpoint has need."""
        if opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _EMPTY:
            self.stack.append(Made(_EMPTY[opcode]))
        elif opcode in _OF_MARK:
            items = self._pop_mark()  # replaces the stack
            self.stack.append(Made(_OF_MARK[opcode], items=items))
        elif opcode in _SHORT_TUPLES:
            size = _SHORT_TUPLES[opcode]
            self.stack[-size:] = [Made("tuple", items=self._placed(self.stack[-size:]))]
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
            if argument >= _MAX_MEMO:
                raise ValueError("it numbers its parts beyond all reason")
            self.memo[argument] = self.stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif opcode not in ("PROTO", "FRAME"):
            method = getattr(self, f"on_{opcode.lower()}", None)
            if method is None:
                raise ValueError(f"it uses {opcode}, which torch.save never writes")
            method(argument)

    def _pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return self._placed(items)

    def _placed(self, items: list[Any]) -> list[Any]:
        """What goes into a container or a call: a name to call may be handed on there."""
        self.report.names |= HANDED_ON & {item.text for item in items if isinstance(item, Name)}
        return items

    def _count(self, items: list[Any]) -> list[Any]:
        """Raises: ValueError if calls have taken too many parts; a memory has them all at once."""
        self.parts += len(items)
        if self.parts > _MAX_PARTS:
            raise ValueError(f"its calls take more than {_MAX_PARTS} parts")
        return items

    def on_stop(self, _: Any) -> None:
        self.report.result = self.stack.pop()

    def on_mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def on_pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._pop_mark()

    def on_pop_mark(self, _: Any) -> None:
        self._pop_mark()

    def on_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def on_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def on_append(self, _: Any) -> None:
        item = self.stack.pop()
        self._top("list", "object").items += self._placed([item])

    def on_appends(self, _: Any) -> None:
        items = self._pop_mark()
        self._top("list", "object").items += items

    def on_additems(self, _: Any) -> None:
        items = self._pop_mark()
        self._top("set", "object").items += items

    def on_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items(self._placed([key, value]))

    def on_setitems(self, _: Any) -> None:
        self._set_items(self._pop_mark())

    def _set_items(self, items: list[Any]) -> None:
        made = self._top("dict", "object")
        if len(items) % 2:
            raise ValueError("it sets a key without a value")
        if made.kind == "object":  # of a class that acts as a dictionary, like defaultdict
            made.kind, made.items = "dict", []
        made.items += items

    def _top(self, *kinds: str) -> Made:
        """What lies on top of the stack. Raises: ValueError if it is none of these kinds."""
        made = self.stack[-1]
        if not isinstance(made, Made) or made.kind not in kinds:
            raise ValueError(f"it fills something that is no {kinds[0]}")
        return made

    def on_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._name(module, name)

    def on_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._name(str(module), str(name))

    def _name(self, module: str, name: str) -> None:
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        self.stack.append(Name(f"{module}.{name}"))
        self.report.names |= {f"{module}.{name}"} - BY_PLACE

    def on_inst(self, argument: str) -> None:
        self._pop_mark()
        self.on_global(argument)
        self.stack[-1] = self._object(self.stack[-1])

    def on_obj(self, _: Any) -> None:
        items = self._pop_mark()
        self.stack.append(self._object(items[0]))

    def on_newobj(self, _: Any) -> None:
        self.stack[-2:] = [self._object(self.stack[-2])]

    def on_newobj_ex(self, _: Any) -> None:
        self.stack[-3:] = [self._object(self.stack[-3])]

    def _object(self, kind: Any) -> Made:
        """What nobody makes: an object of this kind."""
        called = kind.text if isinstance(kind, Name) else ""
        self.report.names |= BY_PLACE & {GETATTR if _is(kind, "member") else called}
        return Made("object", called)

    def on_build(self, _: Any) -> None:
        self.stack.pop()
        if isinstance(self.stack[-1], View):
            self.report.note("changes a tensor after making it")

    def on_reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        name = function.text if isinstance(function, Name) else ""
        items = arguments.items if isinstance(arguments, Made) else []
        if name in TENSOR:
            self.stack.append(self._view(*items[:4]))
        elif name in PARAMETERS:
            self.stack.append(items[0])
        elif name == WITH_ATTRIBUTES and _names(items[:2], TENSOR, PLAIN_TYPES):
            self.stack.append(self._view(*items[2].items[:4]))
        elif name == ORDERED:
            self.stack.append(Made("dict", items=self._pairs(items)))
        elif name == GETATTR and isinstance(items[0], Name) and _is_word(items[1:]):
            owner = items[0].text.replace(TORCH_FUNCTIONS, "torch")
            self.stack.append(Made("member", f"{owner}.{items[1]}"))
        else:
            self.stack.append(self._object(function))

    def _pairs(self, items: list[Any]) -> list[Any]:
        """The arguments of ``OrderedDict([(name, value), ...])`` as names and values in turn."""
        pairs = self._count(items[0].items) if items and isinstance(items[0], Made) else []
        if any(not isinstance(pair, Made) or len(pair.items) != 2 for pair in pairs):
            raise ValueError("it makes a dictionary of something else than pairs of name and value")
        return [part for pair in pairs for part in pair.items]

    def _view(self, storage: Any, offset: Any, size: Any, stride: Any) -> View | Made:
        sizes = self._count(size.items) if _is(size, "tuple") else [-1]
        strides = self._count(stride.items) if _is(stride, "tuple") else []
        numbers = [offset, *sizes, *strides]
        possible = all(type(n) is int and 0 <= n < 2**63 for n in numbers)
        possible = possible and len(sizes) == len(strides) <= MAX_RANK
        possible = possible and isinstance(storage, Storage)
        if not possible or storage.dtype in OF_NO_PLAIN_TENSOR:
            self.report.note("describes a tensor with an impossible shape")
            return Made("tensor")
        count = math.prod(sizes)
        last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        if (count and last >= storage.items) or (not count and max(sizes) >= 2**31):
            self.report.note(f"describes a tensor of {count} values outside its storage")
        return View(storage, offset, tuple(sizes), tuple(strides))

    def on_binpersid(self, _: Any) -> None:
        identity = self.stack.pop()
        items = identity.items if _is(identity, "tuple") else []
        if items[:1] == ["module"] and len(items) > 1:
            self.report.has_module = True
            self.stack.append(items[1])
            return
        self.stack.append(self._storage(items))

    def _storage(self, items: list[Any]) -> Storage:
        what, kind, key, _, count, *part = items
        if what != "storage" or not isinstance(kind, Name) or not isinstance(key, str):
            raise ValueError("it declares a storage in an unknown way")
        if type(count) is not int or part not in ([], [None]):
            raise ValueError("it declares a part of a storage")
        name = kind.text.removeprefix("torch.").removeprefix("cuda.").removesuffix("Storage")
        storage = Storage(key, STORAGES.get(name, ""), count)
        if self.report.storages.setdefault(key, storage) != storage:
            self.report.note("declares one storage in two ways")
        if count < 0 or not storage.dtype:
            self.report.note("declares a storage of an impossible kind")
        return storage


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, Made) and value.kind == kind


def _names(items: list[Any], *allowed: Collection[str]) -> bool:
    """Whether these are names out of the collections, one of each."""
    return len(items) == len(allowed) and all(
        isinstance(item, Name) and item.text in known
        for item, known in zip(items, allowed, strict=True)
    )


def _is_word(items: list[Any]) -> bool:
    """Whether this is one plain name."""
    return (
        len(items) == 1
        and isinstance(items[0], str)
        and items[0].isidentifier()
        and not items[0].startswith("_")
    )
