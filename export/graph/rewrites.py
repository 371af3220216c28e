"""Exact rewrites of an exported graph into what runtimes execute fastest, in standard operators.

Each is an identity of algebra, not of one model: constants are computed once, a product with ones
is left out, and attention takes tokens as they are, (B, N, nh * hd), instead of heads that were
transposed for it, (B, nh, N, hd).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ExportError

from .means import average_by_axis
from .pools import spell_out_max_pools

if TYPE_CHECKING:
    import onnx


Array = np.ndarray[Any, Any]

_SMALL = 65_536  # elements; a folded constant larger than its inputs and than this grows the file
_HEADS_FIRST = [0, 2, 1, 3]  # (B, N, nh, hd) <-> (B, nh, N, hd)
_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli")


def simplify(proto: onnx.ModelProto) -> None:
    """Rewrite a graph in place. Raises: ExportError if a constant cannot be computed."""
    average_by_axis(proto.graph, _shapes(proto))
    spell_out_group_norms(proto)
    spell_out_max_pools(proto.graph)
    fold_constants(proto)
    drop_products_with_ones(proto)
    attend_to_tokens(proto)
    drop_unused(proto)


def fold_constants(proto: onnx.ModelProto) -> None:
    """Compute every node that depends on constants only, unless that would make the file grow."""
    from onnx import numpy_helper

    graph = proto.graph
    constants = {entry.name: entry for entry in graph.initializer}
    kept = []
    for node in graph.node:
        names = [name for name in node.input if name]
        if not names or node.op_type in _RANDOM or not all(name in constants for name in names):
            kept.append(node)
            continue
        known = {name: constants[name] for name in names}
        folded = _evaluate(node, list(known.values()), proto)
        inputs = sum(numpy_helper.to_array(value).size for value in known.values())
        if sum(value.size for value in folded.values()) > max(_SMALL, inputs):
            kept.append(node)
            continue
        for name, value in folded.items():
            constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
            graph.initializer.append(constants[name])
    _replace_nodes(graph, kept)
    drop_unused(proto)


def _evaluate(
    node: onnx.NodeProto, inputs: list[onnx.TensorProto], proto: onnx.ModelProto
) -> dict[str, Array]:
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    names = [name for name in node.output if name]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    graph = helper.make_graph([node], "constant", [], outputs, initializer=inputs)
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    try:
        results = ReferenceEvaluator(model).run(None, {})
    except Exception as error:  # the evaluator raises whatever its operators raise
        raise ExportError(f"the constant {names[0]} ({node.op_type}) failed: {error}") from error
    return {name: np.asarray(value) for name, value in zip(names, results, strict=True)}


def spell_out_group_norms(proto: onnx.ModelProto) -> None:
    """A GroupNormalization with one group, of a map (B, C, H, W), as means and products.

    CUDA has no kernel for the operator, and its standard expansion computes shapes.
    """
    from onnx import helper, numpy_helper

    graph, shapes = proto.graph, _shapes(proto)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        settings = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        known = len(shapes.get(node.input[0], ()) or ()) == 4 if node.input else False
        if node.op_type != "GroupNormalization" or settings["num_groups"] != 1 or not known:
            nodes.append(node)
            continue
        (x, scale, bias), (y,) = node.input, node.output
        epsilon = np.array(settings.get("epsilon", 1e-5), np.float32)
        for name, value in ((f"{y}.axes", np.array([1, 2, 3])), (f"{y}.sides", np.array([1, 2])),
                            (f"{y}.epsilon", epsilon)):  # fmt: skip
            graph.initializer.append(numpy_helper.from_array(value, name))
        steps = (
            ("ReduceMean", (x, f"{y}.axes"), f"{y}.mean"),
            ("Sub", (x, f"{y}.mean"), f"{y}.centred"),
            ("Mul", (f"{y}.centred", f"{y}.centred"), f"{y}.square"),
            ("ReduceMean", (f"{y}.square", f"{y}.axes"), f"{y}.variance"),
            ("Add", (f"{y}.variance", f"{y}.epsilon"), f"{y}.shifted"),
            ("Sqrt", (f"{y}.shifted",), f"{y}.deviation"),
            ("Unsqueeze", (scale, f"{y}.sides"), f"{y}.scale"),
            ("Unsqueeze", (bias, f"{y}.sides"), f"{y}.bias"),
            ("Div", (f"{y}.scale", f"{y}.deviation"), f"{y}.factor"),
            ("Mul", (f"{y}.centred", f"{y}.factor"), f"{y}.scaled"),
            ("Add", (f"{y}.scaled", f"{y}.bias"), y),
        )
        nodes += [helper.make_node(op, names, [out], name=out) for op, names, out in steps]
    _replace_nodes(graph, nodes)


def drop_products_with_ones(proto: onnx.ModelProto) -> None:
    """Mul(x, 1) is x, where the ones do not broadcast x to another shape."""
    from onnx import numpy_helper

    graph, shapes = proto.graph, _shapes(proto)
    constants = {entry.name: entry for entry in graph.initializer}
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        pair = list(node.input) if node.op_type == "Mul" else []
        ones = [
            name for name in pair
            if name in constants and bool((numpy_helper.to_array(constants[name]) == 1).all())
        ]  # fmt: skip
        if len(ones) == 1 and node.output[0] not in {value.name for value in graph.output}:
            (other,) = (name for name in pair if name != ones[0])
            if _keeps_shape(shapes.get(other), tuple(constants[ones[0]].dims)):
                same[node.output[0]] = other
                continue
        kept.append(node)
    _replace_nodes(graph, kept)


def _keeps_shape(shape: tuple[int | str | None, ...] | None, factor: tuple[int, ...]) -> bool:
    if shape is None or len(factor) > len(shape):
        return False
    tail = shape[len(shape) - len(factor) :]
    return all(side in (1, whole) for side, whole in zip(factor, tail, strict=True))


def attend_to_tokens(proto: onnx.ModelProto) -> None:
    """Attention of transposed heads becomes attention of tokens with the number of heads beside.

    The operator takes both; on tokens no head is copied into place and back.
    """
    graph, shapes = proto.graph, _shapes(proto)
    made = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    readers = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op_type != "Attention" or len(node.output) > 1 or len(node.input) > 4:
            continue
        tokens = [_tokens_of(name, made, shapes) for name in node.input[:3]]
        out = _tokens_after(node.output[0], readers, uses, shapes)
        if out is None or None in tokens:
            continue
        queries, keys = (shapes[name][1] for name in node.input[:2])
        if not isinstance(queries, int) or not isinstance(keys, int):
            continue
        node.input[:3] = tokens  # type: ignore[assignment,unused-ignore]
        _set_heads(node, queries, keys)
        made[out].output[0] = f"{out}.heads"  # the copy back, now unused
        node.output[0] = out
    drop_unused(proto)


def _tokens_of(name: str, made: dict[str, Any], shapes: dict[str, Any]) -> str | None:
    """x of Transpose(Reshape(x: (B, N, nh * hd)) : (B, N, nh, hd)) : (B, nh, N, hd)."""
    transpose = made.get(name)
    if transpose is None or not _is_heads_first(transpose):
        return None
    reshape = made.get(transpose.input[0])
    if reshape is None or reshape.op_type != "Reshape":
        return None
    tokens, heads = reshape.input[0], shapes.get(reshape.output[0], ())
    before = shapes.get(tokens, ())
    merged = len(before) == 3 and len(heads) == 4 and before[:2] == heads[:2]
    return tokens if merged and isinstance(heads[2], int) else None


def _tokens_after(name: str, readers: Any, uses: Counter[str], shapes: Any) -> str | None:
    """The value Reshape(Transpose(heads)): (B, N, nh * hd), if nothing else reads the heads."""
    transpose: Any = readers.get(name)
    if uses[name] != 1 or not _is_heads_first(transpose) or uses[transpose.output[0]] != 1:
        return None
    reshape = readers[transpose.output[0]]
    if reshape.op_type != "Reshape" or uses[reshape.output[0]] < 1:
        return None
    heads, after = shapes.get(transpose.output[0], ()), shapes.get(reshape.output[0], ())
    if len(heads) != 4 or len(after) != 3 or heads[:2] != after[:2]:
        return None
    return str(reshape.output[0])


def _is_heads_first(node: Any) -> bool:
    if node is None or node.op_type != "Transpose":
        return False
    return any(list(entry.ints) == _HEADS_FIRST for entry in node.attribute)


def _set_heads(node: onnx.NodeProto, queries: int, keys: int) -> None:
    from onnx import helper

    for key, count in (("q_num_heads", queries), ("kv_num_heads", keys)):
        node.attribute.append(helper.make_attribute(key, count))


def drop_unused(proto: onnx.ModelProto) -> None:
    """Remove nodes and constants that no output needs."""
    graph = proto.graph
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    _replace_nodes(graph, reversed(kept))
    initializers = [entry for entry in graph.initializer if entry.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    alive = needed | {name for node in graph.node for name in node.output}
    _replace_values(graph, [value for value in graph.value_info if value.name in alive])


def _shapes(proto: onnx.ModelProto) -> dict[str, tuple[int | str | None, ...]]:
    """Shapes of values: numbers, or names of symbols."""
    graph = proto.graph
    shapes: dict[str, tuple[int | str | None, ...]] = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            shapes[value.name] = tuple(
                side.dim_value if side.HasField("dim_value") else side.dim_param or None
                for side in kind.shape.dim
            )
    return shapes


def _replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def _replace_values(graph: onnx.GraphProto, values: Iterable[onnx.ValueInfoProto]) -> None:
    values = list(values)
    del graph.value_info[:]
    graph.value_info.extend(values)
