"""What a node of an ONNX graph returns, without running it: data type, shape, and small integers.

Shapes come from onnx's own inference; the small numbers of which a graph makes shapes are computed
with onnx's reference evaluator, which needs no memory to speak of for them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

_SMALL = 1024  # numbers in a value that is computed here
_FOLDED = frozenset(
    "Abs Add And Cast Ceil Concat ConstantOfShape Div Equal Expand Floor Gather Greater Identity "
    "Less Max Min Mod Mul Neg Not Or Range ReduceMax ReduceMin ReduceProd ReduceSum Reshape Round "
    "Shape Size Slice Split Sqrt Squeeze Sub Transpose Unsqueeze Where".split()
)
# of com.microsoft: what they return is as large as what they take
_AS_FIRST = frozenset(
    "BiasGelu FastGelu Gelu QuickGelu SkipLayerNormalization MultiHeadAttention QuantizeLinear "
    "DequantizeLinear QLinearSoftmax QLinearSigmoid QLinearLeakyRelu".split()
)
# of com.microsoft: an operator of ONNX whose result is as large, and which inputs that one takes
_AS_STANDARD: dict[str, tuple[str, slice]] = {
    "FusedConv": ("Conv", slice(0, 3)),
    "FusedGemm": ("Gemm", slice(0, 3)),
    **dict.fromkeys(
        ("FusedMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"), ("MatMul", slice(0, 2))
    ),
    "QGemm": ("Gemm", slice(0, 4, 3)),
    "QLinearAdd": ("Add", slice(0, 4, 3)),
    "QLinearMul": ("Mul", slice(0, 4, 3)),
    "QLinearConcat": ("Concat", slice(2, None, 3)),
    "QLinearAveragePool": ("AveragePool", slice(0, 1)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", slice(0, 1)),
}
_TURNED = ("channels_last", "transA", "transB", "transBatchA", "transBatchB")
_LONGER = ("StringConcat",)
_SIGNED = (3, 5, 6, 7)  # integers of 8 to 64 bits
_OWN = ("", "ai.onnx")  # names of ONNX's own domain


class UnknownSize(Exception):
    """Why nothing bounds what a node returns."""


class UnknownOperator(Exception):
    """Name and opset of an operator that ONNX does not have."""


@dataclass(frozen=True)
class Value:
    """What is known of a value.

    Args:
        kind: data type, as TensorProto numbers them.
        content: itself, where it is small and known.
        fixed: whether it is the same for all inputs, so that a runtime may keep it.
    """

    kind: int
    shape: tuple[int, ...]
    content: Any = None
    fixed: bool = False

    def __post_init__(self) -> None:
        if any(side < 0 for side in self.shape):
            raise UnknownSize("has a value with a negative side")

    @property
    def count(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def item_bytes(self) -> int:
        """Of one of them; 8 for a type that numpy lacks."""
        from onnx import helper

        try:
            return int(helper.tensor_dtype_to_np_dtype(self.kind).itemsize)
        except KeyError:
            return 8

    @property
    def size_bytes(self) -> int:
        """Of all of them, without what strings refer to."""
        return self.count * self.item_bytes

    def plain(self) -> Value:
        """The same kind and shape, nothing known of the content."""
        return Value(self.kind, self.shape)


def weights_of(graph: Any) -> Iterator[tuple[str, Value]]:
    """Names and values of a graph's initialisers; the content of the small ones."""
    from onnx import numpy_helper

    for tensor in graph.initializer:
        value = Value(tensor.data_type, tuple(tensor.dims), None, True)
        if value.count <= _SMALL and not tensor.external_data:
            with contextlib.suppress(Exception):  # the runtime says what is wrong with it
                value = replace(value, content=numpy_helper.to_array(tensor))
        yield tensor.name, value
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, Value(sparse.values.data_type, tuple(sparse.dims), None, True)


@dataclass(frozen=True)
class NodeValues:
    """How the nodes of one model answer.

    Args:
        opsets: version per domain.
        ir_version: of the file format.
    """

    opsets: dict[str, int]
    ir_version: int

    def returned(self, node: Any, taken: dict[str, Value]) -> dict[str, Value]:
        """The outputs of a node without graphs in it, by name; the first is among them.

        Args:
            taken: its inputs, by name.
        Raises: UnknownSize, UnknownOperator, and what onnx's inference raises.
        """
        if node.domain == "com.microsoft" and node.op_type in _AS_FIRST:
            return {node.output[0]: taken[node.input[0]].plain()}
        if node.domain == "com.microsoft" and node.op_type in _AS_STANDARD:
            like, kind = _as_standard(node, taken)
            floats = {name: Value(1, taken[name].shape) for name in like.input if name}
            return {k: Value(kind, v.shape) for k, v in self.returned(like, floats).items()}
        if node.op_type in _LONGER:
            raise UnknownSize(f"has {node.op_type}, whose texts have no known length")
        _require_divisor(node, taken)
        _require_possible(node)
        fixed = all(value.fixed for value in taken.values())
        types = self._types(node, taken)
        found = {name: _sized(types[name], fixed) for name in node.output if name in types}
        known = {name: value for name, value in found.items() if value is not None}
        first = known.get(next(iter(node.output), ""))
        if first is None:
            raise UnknownSize(
                f"has {ascii(node.op_type[:40])[1:-1]}, whose result has no known size"
            )
        if len(node.output) == 1 and first.count <= _SMALL:
            known[node.output[0]] = replace(first, content=self._content(node, taken))
        return known

    def _types(self, node: Any, taken: dict[str, Value]) -> dict[str, Any]:
        from onnx import defs, helper, numpy_helper, shape_inference

        domain = "" if node.domain in _OWN else node.domain
        opset = self.opsets.get(domain, 1)
        try:
            schema = defs.get_schema(node.op_type, opset, domain)
        except defs.SchemaError:
            if domain == "":
                raise UnknownOperator(
                    f"{ascii(node.op_type[:40])[1:-1]} at opset {opset}"
                ) from None
            raise UnknownSize(
                f"has {ascii(node.op_type[:40])[1:-1]}, whose result has no known size"
            ) from None
        types = {k: helper.make_tensor_type_proto(v.kind, v.shape) for k, v in taken.items()}
        known = {k: v.content for k, v in taken.items() if v.content is not None}
        data = {name: numpy_helper.from_array(content, name) for name, content in known.items()}
        opsets = [helper.make_opsetid(*entry) for entry in self.opsets.items()]
        try:
            found: dict[str, Any] = shape_inference.infer_node_outputs(
                schema, node, types, data, {}, opsets, self.ir_version
            )
        except MemoryError:  # onnx makes as many results as an attribute says
            raise UnknownSize(f"has {node.op_type} with more results than memory holds") from None
        return found

    def _content(self, node: Any, taken: dict[str, Value]) -> Any:
        """What the node returns, where it is made of known numbers or of shapes; else None."""
        if node.domain not in _OWN:
            return None
        feeds = {name: value.content for name, value in taken.items()}
        if node.op_type in ("Shape", "Size"):
            feeds = {k: np.broadcast_to(np.float32(0), v.shape) for k, v in taken.items()}
        known = all(content is not None for content in feeds.values())
        if not known or node.op_type not in (*_FOLDED, "Constant"):
            return None
        from onnx.reference import ReferenceEvaluator

        try:
            with np.errstate(all="ignore"):
                answer = ReferenceEvaluator(node, opsets=self.opsets).run(None, feeds)
        except Exception:  # a kernel raises what it likes; then it is not known
            return None
        return np.asarray(next(iter(answer)))


def _as_standard(node: Any, taken: dict[str, Value]) -> tuple[Any, int]:
    """A node of ONNX's own that returns as much for floats, and the data type of the result.

    Raises: UnknownSize.
    """
    from onnx import NodeProto, defs

    operator, places = _AS_STANDARD[node.op_type]
    like = NodeProto(op_type=operator, input=node.input[places], output=node.output[:1])
    known = defs.get_schema(operator).attributes
    for attribute in node.attribute:
        if attribute.name in known:
            like.attribute.append(attribute)
        elif attribute.name in _TURNED and attribute.i:
            raise UnknownSize(f"has {node.op_type} with {attribute.name}, which is not followed")
    floats = node.op_type == "MatMulIntegerToFloat"
    floats = floats or (node.op_type == "QGemm" and len(node.input) < 9)  # without a zero point
    return like, 1 if floats else taken[like.input[0]].kind


def _require_divisor(node: Any, taken: dict[str, Value]) -> None:
    """The least integer, divided by -1, ends the process that divides. Raises: UnknownSize."""
    if node.op_type in ("Div", "Mod") and len(node.input) > 1:
        divisor = taken[node.input[1]]
        if divisor.kind in _SIGNED and (divisor.content is None or np.any(divisor.content == -1)):
            raise UnknownSize("divides integers by a number that is not known, or by -1")


def _require_possible(node: Any) -> None:
    """What onnxruntime 1.31 does not check, and what then ends the process. Raises: UnknownSize."""
    given = {a.name: a.f if a.type == a.FLOAT else a.i for a in node.attribute}
    possible = True
    if node.op_type.startswith("RandomUniform"):
        low, high = given.get("low", 0.0), given.get("high", 1.0)
        possible = -math.inf < low <= high < math.inf
    elif node.op_type.startswith("RandomNormal"):
        possible = 0 < given.get("scale", 1.0) < math.inf and math.isfinite(given.get("mean", 0.0))
    elif node.op_type == "GatherND":
        possible = given.get("batch_dims", 0) >= 0
    elif node.op_type == "LayerNormalization" and list(node.input[2:]) == [""]:
        raise UnknownSize("has a LayerNormalization whose bias is named and missing")
    if not possible:
        raise UnknownSize(f"has {node.op_type} with impossible attributes")


def longest_text(graph: Any) -> int:
    """Bytes of the longest string that a graph holds, in weights or attributes."""
    found = [len(text) for tensor in graph.initializer for text in tensor.string_data]
    for attribute in (a for node in graph.node for a in node.attribute):
        tensors = [attribute.t, *attribute.tensors]
        found += [len(text) for tensor in tensors for text in tensor.string_data]
        found += [len(attribute.s), *map(len, attribute.strings)]
        found += [longest_text(inner) for inner in (attribute.g, *attribute.graphs)]
    return max(found, default=0)


def _sized(kind: Any, fixed: bool) -> Value | None:
    """The value of a TypeProto; None if it is no tensor, or its shape is not known."""
    dims = kind.tensor_type.shape.dim
    if not kind.tensor_type.HasField("shape") or not all(d.HasField("dim_value") for d in dims):
        return None
    return Value(kind.tensor_type.elem_type, tuple(d.dim_value for d in dims), None, fixed)
