"""Graphs as the quantiser understands them: Attention and Gemm in plain standard operators.

Attention is softmax(scale * q k^T + mask) v. A Gemm becomes a product and a sum here, because the
quantiser's own rewrite transposes a weight that two nodes share twice (onnxruntime 1.31).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ExportError

from .rewrites import drop_unused

if TYPE_CHECKING:
    import onnx


def plain_products(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without Attention, and without Gemm where that is a linear layer.

    Raises: ExportError for a form of Attention that our models do not use.
    """
    result = copy.deepcopy(proto)
    nodes: list[onnx.NodeProto] = []
    weights = {weight.name: weight for weight in result.graph.initializer}
    for node in result.graph.node:
        if node.op_type == "Attention":
            nodes += _attention(node, result.graph)
        elif node.op_type == "Gemm" and node.input[1] in weights:
            nodes += _linear(node, result.graph, weights)
        else:
            nodes.append(node)
    del result.graph.node[:], result.graph.value_info[:]
    result.graph.node.extend(nodes)
    drop_unused(result)
    return result


def _attention(node: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    from onnx import helper

    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    scale, heads = settings.pop("scale", None), settings.pop("q_num_heads", 0)
    same = settings.pop("kv_num_heads", 0) == heads
    given = [name for name in node.input if name]
    known = same and not any(settings.values()) and scale is not None
    if not known or len(given) not in (3, 4) or len(node.output) > 1:
        raise ExportError(
            f"the Attention node {node.name} has settings that int8 export does not know: "
            f"{sorted(settings)}"
        )
    made = _Steps(node.name, graph)
    query, key, value, *mask = given
    if heads:  # tokens (B, N, nh * hd) become heads (B, nh, N, hd)
        query, value = (made.heads(name, heads, (0, 2, 1, 3)) for name in (query, value))
        key = made.heads(key, heads, (0, 2, 3, 1))
    else:
        key = made.add("Transpose", [key], perm=(0, 1, 3, 2))
    scores = made.add("MatMul", [query, key])
    scores = made.add("Mul", [scores, made.constant(np.array(scale, np.float32))])
    if mask:
        scores = made.add("Add", [scores, *mask])
    out = made.add("MatMul", [made.add("Softmax", [scores], axis=-1), value])
    if heads:
        out = made.add("Transpose", [out], perm=(0, 2, 1, 3))  # (B, N, nh, hd)
        out = made.add("Reshape", [out, made.constant(np.array((0, 0, -1)))])
    made.nodes[-1].output[0] = node.output[0]
    return made.nodes


def _linear(
    node: onnx.NodeProto, graph: onnx.GraphProto, weights: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    from onnx import helper, numpy_helper

    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if settings.get("transA") or settings.get("alpha", 1) != 1 or settings.get("beta", 1) != 1:
        return [node]
    name = node.input[1]
    if settings.get("transB"):
        name = f"{name}_transposed"
        if name not in weights:
            array = np.ascontiguousarray(numpy_helper.to_array(weights[node.input[1]]).T)
            graph.initializer.append(numpy_helper.from_array(array, name))
            weights[name] = graph.initializer[-1]
    bias = list(node.input[2:])
    out = f"{node.output[0]}_product" if bias else node.output[0]
    product = helper.make_node("MatMul", [node.input[0], name], [out], name=f"{node.name}_product")
    if not bias:
        return [product]
    total = helper.make_node("Add", [out, *bias], list(node.output), name=f"{node.name}_sum")
    return [product, total]


class _Steps:
    """Nodes in place of one, named after it."""

    def __init__(self, name: str, graph: onnx.GraphProto) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._name = name
        self._graph = graph

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        name = f"{self._name}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"{name}_node", **attributes))
        return name

    def constant(self, value: np.ndarray[Any, Any]) -> str:
        from onnx import numpy_helper

        made = numpy_helper.from_array(value, f"{self._name}_{len(self.nodes)}_constant")
        self._graph.initializer.append(made)
        return made.name

    def heads(self, tokens: str, count: int, order: tuple[int, ...]) -> str:
        split = self.add("Reshape", [tokens, self.constant(np.array((0, 0, count, -1)))])
        return self.add("Transpose", [split], perm=order)
