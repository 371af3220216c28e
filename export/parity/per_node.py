"""Which node first leaves the budget: every intermediate of a float32 graph against float64.

The same graph is computed twice: by onnxruntime in float32 without optimisation, so that every node
still exists, and by onnx's reference evaluator after all its constants, casts and inputs were
turned into float64. Optimised graphs fuse nodes and have no such intermediates. Constants that the
exporter folded keep their float32 rounding in both runs.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ConfigError, ExportError

from ..graph.checks import load_model
from ..runtime.builtin import import_runtime
from ..spec import ExportSpec

if TYPE_CHECKING:
    import onnx


Array = np.ndarray[Any, Any]

_WORST = 5


@dataclass(frozen=True)
class NodeError:
    """The error of one node's result.

    Args:
        name, op: of the node.
        max_abs_error: against float64.
        scale: max(1, largest absolute value in float64).
    """

    name: str
    op: str
    max_abs_error: float
    scale: float

    @property
    def relative_error(self) -> float:
        """Error in units of the scale, as the float32 verdict has it."""
        return self.max_abs_error / self.scale


@dataclass(frozen=True)
class NodeErrors:
    """Errors of all float nodes, in the order in which the graph computes them.

    Args:
        nodes: one entry per node with a float result.
        budget: share of the scale that an error may be.
    """

    nodes: tuple[NodeError, ...]
    budget: float

    def __bool__(self) -> bool:
        return self.first_over is None

    @property
    def first_over(self) -> NodeError | None:
        """The first node beyond the budget; NaN counts as beyond."""
        return next((n for n in self.nodes if not n.relative_error <= self.budget), None)

    def histogram(self) -> list[dict[str, Any]]:
        """Nodes per decade of the relative error, smallest first."""
        decades: Counter[float] = Counter(_decade(node.relative_error) for node in self.nodes)
        return [{"range": _range(decade), "nodes": decades[decade]} for decade in sorted(decades)]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        worst = sorted(self.nodes, key=lambda node: -node.relative_error)[:_WORST]
        return {
            "budget": self.budget,
            "nodes": len(self.nodes),
            "first_over": _entry(self.first_over) if self.first_over else None,
            "worst": [_entry(node) for node in worst],
            "histogram": self.histogram(),
            "errors": [_number(node.relative_error) for node in self.nodes],
        }


def measure_nodes(
    model: str | Path | onnx.ModelProto, batch: Array, budget: float = ExportSpec.absolute
) -> NodeErrors:
    """Compare every intermediate of a float32 graph with a float64 run of the same graph.

    Args:
        model: an ONNX file or model with one float32 input.
        batch: float32 (B, C, H, W).
        budget: share of max(1, largest value) that an error may be.
    Raises: ExportError if the graph is not float32, or has operators that onnx's evaluator lacks.
    """
    proto = load_model(model)
    outputs = _float_outputs(proto)
    single = _run_float32(proto, outputs, batch)
    double = _run_float64(proto, list(outputs), batch)
    found = []
    for name, (node, op) in outputs.items():
        expected = np.asarray(double[name], np.float64)
        if expected.shape != single[name].shape:
            raise ExportError(f"{node} has another shape in float64: {expected.shape}")
        error = float(np.abs(single[name] - expected).max()) if expected.size else 0.0
        scale = max(1.0, float(np.abs(expected).max())) if expected.size else 1.0
        found.append(NodeError(node, op, error, scale))
    return NodeErrors(tuple(found), budget)


def _float_outputs(proto: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """Output value -> (node, operator) of all nodes with a float32 result."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(proto)
    single = onnx.TensorProto.FLOAT
    known = {
        value.name
        for value in (*inferred.graph.value_info, *inferred.graph.output)
        if value.type.tensor_type.elem_type == single
    }
    if proto.graph.input[0].type.tensor_type.elem_type != single or not known:
        raise ExportError("errors per node are measured on float32 graphs with a float32 input")
    return {
        name: (node.name or name, node.op_type)
        for node in proto.graph.node
        for name in node.output
        if name in known
    }


def _run_float32(proto: onnx.ModelProto, names: dict[str, Any], batch: Array) -> dict[str, Array]:
    """All intermediates by onnxruntime, unoptimised."""
    import onnx

    runtime = import_runtime()
    exposed = onnx.ModelProto()
    exposed.CopyFrom(proto)
    have = {value.name for value in exposed.graph.output}
    exposed.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in have
    )
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = runtime.InferenceSession(
        exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = session.run(list(names), {session.get_inputs()[0].name: batch})
    return dict(zip(names, values, strict=True))


def _run_float64(proto: onnx.ModelProto, names: list[str], batch: Array) -> dict[str, Array]:
    """All intermediates by onnx's evaluator, in float64."""
    from onnx.reference import ReferenceEvaluator

    double = to_float64(proto)
    try:
        evaluator = ReferenceEvaluator(double)
        feeds = {double.graph.input[0].name: batch.astype(np.float64)}
        values: dict[str, Any] = dict(evaluator.run(None, feeds, intermediate=True))
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise ExportError(
            f"onnx's evaluator cannot run this graph in float64 ({reason}); errors per node are "
            "not available for it"
        ) from None
    missing = [name for name in names if name not in values]
    if missing:
        raise ConfigError(f"the float64 run lacks {missing[0]}")
    return {name: values[name] for name in names}


def to_float64(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every float32 constant, cast and input as float64."""
    import onnx
    from onnx import numpy_helper

    single, double = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    del model.graph.value_info[:]
    for tensor in model.graph.initializer:
        if tensor.data_type == single:
            values = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == single:
            value.type.tensor_type.elem_type = double
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == single:
                values = numpy_helper.to_array(attribute.t).astype(np.float64)
                attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == single:
                attribute.i = double
            elif attribute.name == "softmax_precision" and attribute.i == single:
                attribute.i = double
    return model


def _decade(error: float) -> float:
    if math.isnan(error):
        return math.inf
    return math.floor(math.log10(error)) if 0 < error < math.inf else (-math.inf, error)[error > 0]


def _range(decade: float) -> str:
    if decade == -math.inf:
        return "exact"
    return "NaN or infinite" if decade == math.inf else f"1e{decade:.0f} to 1e{decade + 1:.0f}"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _entry(node: NodeError) -> dict[str, Any]:
    return {
        "name": node.name,
        "op": node.op,
        "max_abs_error": _number(node.max_abs_error),
        "relative_error": node.relative_error,
    }
