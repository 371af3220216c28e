"""What a pickle would do, found out without doing it. No torch, and nothing is ever imported.

`scan` follows the opcodes on an abstract stack. It knows afterwards every name that the pickle
asks for, every storage that it declares and every view into one. PyTorch's restricted loader
refuses foreign names itself; it does not refuse views beyond their storage, storages that the file
does not hold, calls that allocate, or keys that take for ever to hash. `zoo.pickle_verdict` refuses
all of these and says why.
"""

from __future__ import annotations

import io
import math
import pickletools
from dataclasses import dataclass, field
from typing import Any

MAX_OPCODES = 2_000_000
MAX_TUPLE_DEPTH = 32
MAX_RANK = 16
_MAX_KEY = 2**61 - 1  # integers from here on share their hash with smaller ones

_KINDS = (
    *((1, "Char Byte Bool"), (2, "Half BFloat16 Short"), (4, "Float Int")),
    *((8, "Double Long ComplexFloat"), (16, "ComplexDouble")),
)
STORAGES = {f"{kind}Storage": size for size, kinds in _KINDS for kind in kinds.split()}  # bytes
_DTYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"
_TENSOR = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_PARAMETER = "torch._utils._rebuild_parameter"
_ORDERED, _COUNTER, _ENCODE = "collections.OrderedDict", "collections.Counter", "_codecs.encode"
# Names that plain tensors, their containers and optimizer states need.
PLAIN = {*_TENSOR, _PARAMETER, _ORDERED, _COUNTER, _ENCODE, "torch.Size", "torch.device"}
PLAIN |= {f"torch.{name}" for name in (*STORAGES, *_DTYPES.split())}


@dataclass(frozen=True)
class Name:
    """A global: ``module.name``."""

    text: str


@dataclass(frozen=True)
class Storage:
    """A block of numbers that a pickle declares."""

    key: str
    kind: str
    items: int

    @property
    def size_bytes(self) -> int:
        """What its items take in memory."""
        return self.items * STORAGES.get(self.kind, 1)


@dataclass
class Made:
    """A container or an object: what was put into it, if that matters later."""

    kind: str
    items: list[Any] = field(default_factory=list)
    depth: int = 0  # of tuples within tuples


@dataclass
class Report:
    """What one or several pickles ask for."""

    names: set[str] = field(default_factory=set)
    storages: dict[str, Storage] = field(default_factory=dict)
    view_bytes: int = 0
    opcode: str = ""  # one that PyTorch's restricted loader does not know
    problem: str = ""
    has_module: bool = False
    result: Any = None

    def note(self, problem: str) -> None:
        """Remember the first problem; the scan goes on, so that all names are known."""
        self.problem = self.problem or problem


def scan(stream: io.BytesIO, report: Report) -> Report:
    """Follow one pickle from the stream's position to its end.

    Raises: ValueError and its relatives if it is malformed.
    """
    machine = _Machine(report)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count >= MAX_OPCODES:
            raise ValueError(f"it has more than {MAX_OPCODES} steps")
        if not machine.step(opcode.name, argument):
            report.opcode = opcode.name
            return report
    report.opcode = report.opcode or machine.newer
    report.result = machine.result
    return report


_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}
_LITERALS |= {"SHORT_BINUNICODE", "BINUNICODE8"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_TUPLE": "tuple", "EMPTY_LIST": "list", "EMPTY_DICT": "dict", "EMPTY_SET": "set"}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# Opcodes of later protocols: followed only to learn the names, refused in the end.
_NEWER = {"SHORT_BINUNICODE", "BINUNICODE8", "FRAME", "MEMOIZE", "STACK_GLOBAL", "INST", "OBJ"}


class _Machine:
    """The stack, and what each opcode does to it."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.result: Any = None
        self.newer = ""

    def step(self, opcode: str, argument: Any) -> bool:
        """Follow one opcode; False if it is unknown here."""
        if opcode in _NEWER:
            self.newer = self.newer or opcode
        if opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _EMPTY:
            self.stack.append(Made(_EMPTY[opcode]))
        elif opcode in _SHORT_TUPLES:
            size = _SHORT_TUPLES[opcode]
            self.stack[-size:] = [self._tuple(self.stack[-size:])]
        elif opcode in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif opcode not in ("PROTO", "FRAME"):
            method = getattr(self, f"on_{opcode.lower()}", None)
            if method is None:
                return False
            method(argument)
        return True

    def _pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _tuple(self, items: list[Any]) -> Made:
        depth = 1 + max((i.depth for i in items if isinstance(i, Made)), default=0)
        if depth > MAX_TUPLE_DEPTH:
            raise ValueError(f"it nests tuples more than {MAX_TUPLE_DEPTH} deep")
        return Made("tuple", items, depth)

    def on_stop(self, _: Any) -> None:
        self.result = self.stack.pop()

    def on_mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def on_tuple(self, _: Any) -> None:
        made = self._tuple(self._pop_mark())
        self.stack.append(made)  # only now: taking the items replaced the stack

    def on_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def on_append(self, _: Any) -> None:
        item = self.stack.pop()
        self._extend([item])

    def on_appends(self, _: Any) -> None:
        self._extend(self._pop_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], Made):
            raise ValueError("it appends to something that is not a list")
        self.stack[-1].items += items

    def on_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def on_setitems(self, _: Any) -> None:
        self._set_items(self._pop_mark())

    def _set_items(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], Made) or len(items) % 2:
            raise ValueError("it sets items of something that is not a dictionary")
        for key in items[::2]:
            huge = isinstance(key, int) and abs(key) >= _MAX_KEY
            if huge or not isinstance(key, (str, int, float)):
                self.report.note("has dictionary keys other than text and ordinary numbers")

    def on_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._name(module, name)

    def on_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._name(str(module), str(name))

    def _name(self, module: str, name: str) -> None:
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        self.stack.append(Name(f"{module}.{name}"))
        self.report.names.add(f"{module}.{name}")

    def on_inst(self, argument: str) -> None:
        self._pop_mark()
        self.on_global(argument)

    def on_obj(self, _: Any) -> None:
        self._pop_mark()
        self.stack.append(Made("object"))

    def on_newobj(self, _: Any) -> None:
        del self.stack[-2:]
        self.stack.append(Made("object"))

    def on_build(self, _: Any) -> None:
        self.stack.pop()
        if _is(self.stack[-1], "tensor"):
            self.report.note("changes a tensor after making it")

    def on_reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        name = function.text if isinstance(function, Name) else ""
        items = arguments.items if isinstance(arguments, Made) else []
        self.stack.append(self._call(name, items))

    def _call(self, name: str, items: list[Any]) -> Any:
        if name in _TENSOR:
            return self._view(*items[:4])
        if name == _PARAMETER:
            return items[0]
        if name == _ORDERED and items and not _are_pairs(items):
            self.report.note("makes a dictionary of something else than pairs of name and value")
        elif name == _COUNTER and not (len(items) == 1 and _is(items[0], "dict")):
            self.report.note("counts something else than a dictionary")
        elif name == _ENCODE and not (len(items) == 2 and items[1] == "latin1"):
            self.report.note("encodes text in an unusual way")
        return Made("dict" if name in (_ORDERED, _COUNTER) else "object")

    def _view(self, storage: Any, offset: Any, size: Any, stride: Any) -> Made:
        sizes = size.items if _is(size, "tuple") else [-1]
        strides = stride.items if _is(stride, "tuple") else []
        numbers = [offset, *sizes, *strides]
        possible = all(type(n) is int and n >= 0 for n in numbers)
        possible = possible and len(sizes) == len(strides) <= MAX_RANK
        if not possible or not isinstance(storage, Storage):
            self.report.note("describes a tensor with an impossible shape")
            return Made("tensor")
        count = math.prod(sizes)
        last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        if count and last >= storage.items:
            self.report.note(f"describes a tensor of {count} values outside its storage")
        self.report.view_bytes += count * STORAGES.get(storage.kind, 1)
        return Made("tensor")

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
        storage = Storage(key, kind.text.removeprefix("torch."), count)
        if self.report.storages.setdefault(key, storage) != storage:
            self.report.note("declares one storage in two ways")
        if count < 0 or storage.kind not in STORAGES:
            self.report.note("declares a storage of an impossible kind")
        return storage


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, Made) and value.kind == kind


def _are_pairs(items: list[Any]) -> bool:
    """Whether these are the arguments of ``OrderedDict([(name, value), ...])``."""
    return (
        len(items) == 1
        and _is(items[0], "list")
        and all(
            isinstance(pair, Made) and len(pair.items) == 2 and isinstance(pair.items[0], str)
            for pair in items[0].items
        )
    )
