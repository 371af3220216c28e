"""What the pickle of a checkpoint consists of, as values that nothing was run for. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

STORAGES = {  # name of the storage -> dtype
    "Char": "int8", "Byte": "uint8", "Bool": "bool", "Half": "float16", "BFloat16": "bfloat16",
    "Short": "int16", "Float": "float32", "Int": "int32", "Double": "float64", "Long": "int64",
    "ComplexFloat": "complex64", "ComplexDouble": "complex128",
    "QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32", "storage.Untyped": "untyped",
}  # fmt: skip
ITEM_BYTES = {
    "int8": 1, "uint8": 1, "bool": 1, "float16": 2, "bfloat16": 2, "int16": 2, "float32": 4,
    "int32": 4, "float64": 8, "int64": 8, "complex64": 8, "complex128": 16,
    "qint8": 1, "quint8": 1, "qint32": 4, "untyped": 1,
}  # fmt: skip
OF_NO_PLAIN_TENSOR = ("qint8", "quint8", "qint32", "untyped")
TENSOR = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
ORDERED = "collections.OrderedDict"
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
# a tensor to which somebody has given attributes
WITH_ATTRIBUTES = "torch._tensor._rebuild_from_type_v2"
PLAIN_TYPES = ("torch.Tensor", "torch._tensor.Tensor")
# how an enumeration's member is stored, and a setting that names torch.tanh or the like
GETATTR, TORCH_FUNCTIONS = "builtins.getattr", "torch._C._VariableFunctionsClass"
# harmless in one place, see `pickle_scan`: reported where they are called otherwise, or handed on
BY_PLACE = {WITH_ATTRIBUTES, GETATTR, TORCH_FUNCTIONS}
HANDED_ON = {WITH_ATTRIBUTES, GETATTR}
# Names that plain tensors, their containers and optimizer states need.
PLAIN = {*TENSOR, *PARAMETERS, ORDERED, "collections.Counter", "_codecs.encode"}
PLAIN |= {"torch.Size", "torch.device", *(f"torch.{dtype}" for dtype in ITEM_BYTES)}
PLAIN |= {f"torch.{where}{kind}Storage" for kind in STORAGES for where in ("", "cuda.")}


@dataclass(frozen=True)
class Name:
    """A global: ``module.name``."""

    text: str


@dataclass(frozen=True)
class Storage:
    """A block of numbers that a pickle declares; `dtype` is empty for an impossible kind."""

    key: str
    dtype: str
    items: int

    @property
    def size_bytes(self) -> int:
        """What its items take in memory."""
        return self.items * ITEM_BYTES.get(self.dtype, 1)


@dataclass(frozen=True)
class View:
    """A tensor: where its numbers lie in a storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """What a contiguous copy takes in memory."""
        return math.prod(self.size) * ITEM_BYTES.get(self.storage.dtype, 1)


@dataclass(eq=False)  # compared and hashed by identity: contents may be cyclic
class Made:
    """A container or an object, with what was put into it.

    Args:
        kind: "list", "tuple", "set", "dict" (also what acts as one), "object", "tensor" (one that
            cannot be), "member" (of a class, looked up and not called).
        name: of its class, if it is an object.
        items: of a dictionary keys and values in turn.
    """

    kind: str
    name: str = ""
    items: list[Any] = field(default_factory=list)

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """Keys and values of a dictionary."""
        return zip(self.items[::2], self.items[1::2], strict=True)


@dataclass
class Report:
    """What one or several pickles hold and ask for."""

    names: set[str] = field(default_factory=set)
    storages: dict[str, Storage] = field(default_factory=dict)
    problem: str = ""
    has_module: bool = False
    result: Any = None

    def note(self, problem: str) -> None:
        """Remember the first problem; the scan goes on, so that all names are known."""
        self.problem = self.problem or problem
