"""A graph as the runtime's partitioner sees it: types known, constants folded, functions
inlined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import ExportError

if TYPE_CHECKING:
    import onnx


# The runtime inlines these before it asks the providers: neither CPU nor CUDA has a kernel.
_INLINED = ("GroupNormalization", "CastLike", "Mish", "Swish")
_LIGHT = 1024  # elements; larger initialisers are not copied for the inference of types

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class TypedGraph:
    """What the runtime's partitioner sees: types of values, without what is folded before.

    Args:
        nodes: nodes that survive constant folding, in topological order.
        types: element type ("float", "int64") of every value whose type is known.
        constants: number of elements of initialisers and folded values.
        inputs: names of graph inputs.
        opsets: version per domain.
    """

    nodes: tuple[onnx.NodeProto, ...]
    types: dict[str, str]
    constants: dict[str, int]
    inputs: frozenset[str]
    opsets: dict[str, int]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> TypedGraph:
        light, sizes = _light_copy(model)
        types, shapes = _infer(light, model)
        alive: list[onnx.NodeProto] = []
        renamed: dict[str, str] = {}
        for node in light.graph.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            if _folds(node, sizes, shapes):
                sizes |= {name: _elements(shapes.get(name)) for name in node.output}
            elif node.op_type == "Identity" and node.domain in ("", "ai.onnx"):
                renamed[node.output[0]] = node.input[0]
            else:
                alive.append(node)
        opsets = {entry.domain or "ai.onnx": entry.version for entry in light.opset_import}
        inputs = frozenset(value.name for value in model.graph.input)
        return cls(tuple(alive), types, sizes, inputs, opsets)


def _light_copy(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The model without large initialisers, functions inlined; and sizes of all initialisers."""
    import onnx
    from onnx import inliner

    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    sizes: dict[str, int] = {}
    for tensor in model.graph.initializer:
        sizes[tensor.name] = _elements(tuple(tensor.dims))
        value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        if sizes[tensor.name] <= _LIGHT:
            graph.initializer.append(tensor)
            graph.value_info.append(value)  # the inliner reads the types of initialisers here
        else:
            graph.input.append(value)  # keeps the type without the bytes
    used = {node.op_type for node in graph.node} & set(_INLINED)
    if light.functions:
        light = inliner.inline_local_functions(light)
    if used:
        names = [("", name) for name in sorted(used)]
        light = inliner.inline_selected_functions(light, names, inline_schema_functions=True)
    return light, sizes


def _infer(
    light: onnx.ModelProto, model: onnx.ModelProto
) -> tuple[dict[str, str], dict[str, Shape | None]]:
    """Element type and shape of every value; onnx infers standard operators, others as stated."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ExportError(f"the types of the graph cannot be inferred: {reason}") from None
    types: dict[str, str] = {}
    shapes: dict[str, Shape | None] = {}
    graph = inferred.graph
    for value in (*model.graph.value_info, *graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type:
            types[value.name] = _type_name(tensor.elem_type)
        if tensor.HasField("shape"):
            shapes[value.name] = tuple(
                d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim
            )
    for initialiser in model.graph.initializer:
        types[initialiser.name] = _type_name(initialiser.data_type)
        shapes[initialiser.name] = tuple(initialiser.dims)
    return types, shapes


def _type_name(number: int) -> str:
    import onnx

    return str(onnx.TensorProto.DataType.Name(number).lower())


def _elements(shape: Shape | None) -> int:
    total = 1
    for side in shape or ():
        total *= side or 0
    return total


def _folds(node: onnx.NodeProto, sizes: dict[str, int], shapes: dict[str, Shape | None]) -> bool:
    """Whether the runtime computes this node once, before it partitions the graph."""
    if node.domain not in ("", "ai.onnx") or node.op_type.startswith("Random"):
        return False
    if node.op_type == "Shape":
        shape = shapes.get(node.input[0])
        slices = {a.name: a.i for a in node.attribute}
        chosen = None if shape is None else shape[slices.get("start", 0) : slices.get("end")]
        return chosen is not None and None not in chosen
    quantised = node.op_type in ("QuantizeLinear", "DequantizeLinear")  # kept for their fusions
    return not quantised and all(name in sizes for name in node.input if name)
