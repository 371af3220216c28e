"""Which nodes of a float16 graph stay float32, by measurement on noise, images, a constant and
extreme values.

First the range: a node whose numbers come near the largest float16, in its result or in the sums
that it forms, is an island with all that read its result. Then the error: each float16 result is
rounded in a copy of the graph that computes in float32 (what GPUs do; onnxruntime's CPU provider
skips the rounding between nodes), and while the outputs of that copy miss the budget, the nodes at
which the error grows most join the islands.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ExportError

from ..graph.float16 import LARGEST, convert, float_tensors, rounded
from ..spec import INPUT_NAME
from .measure import References

if TYPE_CHECKING:
    import onnx


Array = np.ndarray[Any, Any]

_MARGIN = 0.5  # of the range and of the error budget; kernels and other images need room
_STEP = 0.05  # share of the nodes that joins the islands per round
_ROUNDS = 12
_CHUNK = 100  # intermediate results fetched at a time
_SQUARING = frozenset(
    {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "ReduceL2"}
)
_SUMMING = frozenset({"ReduceMean", "ReduceSum", "GlobalAveragePool"})


def find_islands(proto: onnx.ModelProto, references: References) -> dict[str, str]:
    """Names of the nodes that stay float32, with the reason.

    Raises: ExportError if the budget is missed with every node that was tried.
    """
    images = _one_of_each_kind(references)
    islands = _out_of_range(proto, images)
    budget = _MARGIN * references.spec.float16
    for _ in range(_ROUNDS):
        emulated = _Graph(emulate(proto, islands))
        error = _output_error(emulated, references)
        if error <= budget:
            return dict(sorted(islands.items()))
        islands |= _where_error_grows(proto, emulated, islands, images)
    raise ExportError(
        f"no float16 form keeps the error below {references.spec.float16:g}: {error:.1e} with "
        f"{len(islands)} of {len(proto.graph.node)} nodes in float32"
    )


def emulate(proto: onnx.ModelProto, islands: Collection[str]) -> onnx.ModelProto:
    """A float32 graph that rounds what float16 nodes make and the weights that they read."""
    from onnx import TensorProto, helper, numpy_helper

    result = copy.deepcopy(proto)
    graph = result.graph
    floats = float_tensors(proto)
    weights = {w.name: w for w in graph.initializer if w.data_type == TensorProto.FLOAT}
    nodes: list[onnx.NodeProto] = []
    for node in list(graph.node):
        nodes.append(node)
        if node.name in islands:
            continue
        for number, name in enumerate(node.input):
            if name in weights:
                array = rounded(numpy_helper.to_array(weights[name])).astype(np.float32)
                if f"{name}_rounded" not in weights:
                    made = numpy_helper.from_array(array, f"{name}_rounded")
                    graph.initializer.append(made)
                    weights[made.name] = made
                node.input[number] = f"{name}_rounded"
        for number, name in enumerate(node.output):
            if name in floats:
                node.output[number] = f"{name}_raw"
                for source, target, kind in (
                    (f"{name}_raw", f"{name}_half", TensorProto.FLOAT16),
                    (f"{name}_half", name, TensorProto.FLOAT),
                ):
                    nodes.append(helper.make_node("Cast", [source], [target], to=kind))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return result


class _Graph:
    """A graph whose intermediate results can be read."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self._outputs = [value.name for value in proto.graph.output]
        self._plain = _session(proto)

    def outputs(self, batch: Array) -> list[Array]:
        """What the graph returns."""
        answers: list[Array] = self._plain.run(self._outputs, {INPUT_NAME: batch})
        return answers

    def results(self, names: list[str], batches: list[Array]) -> Iterator[tuple[str, list[Array]]]:
        """Intermediate results by name, for each batch."""
        import onnx
        from onnx import TensorProto, helper

        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            opened = onnx.ModelProto()
            opened.CopyFrom(self.proto)
            del opened.graph.output[:]
            for name in chunk:
                value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
                opened.graph.output.append(value)
            session = _session(opened)
            answers = [session.run(chunk, {INPUT_NAME: batch}) for batch in batches]
            for number, name in enumerate(chunk):
                yield name, [answer[number] for answer in answers]


def _session(proto: onnx.ModelProto) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _one_of_each_kind(references: References) -> list[Array]:
    inputs = references.at(references.axes.size)[references.form.outputs[0]].inputs
    first = [inputs.kinds.index(kind) for kind in dict.fromkeys(inputs.kinds)]
    return [inputs.batch[row : row + 1] for row in first]


def _makers(proto: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    floats = float_tensors(proto)
    return {name: node for node in proto.graph.node for name in node.output if name in floats}


def _out_of_range(proto: onnx.ModelProto, images: list[Array]) -> dict[str, str]:
    """Nodes whose numbers, or the sums that they form, come near the largest float16."""
    from onnx import TensorProto, numpy_helper

    makers = _makers(proto)
    largest = {INPUT_NAME: max(float(np.abs(image).max()) for image in images)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, values in _Graph(proto).results(list(makers), images):
        finite = [np.abs(np.where(np.isfinite(v), v, 0)).max(initial=0) for v in values]
        largest[name] = float(max(finite))
        shapes[name] = values[0].shape
    for weight in proto.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            array = np.abs(numpy_helper.to_array(weight))
            largest[weight.name] = float(array[np.isfinite(array)].max(initial=0))
    found: dict[str, str] = {}
    for node in proto.graph.node:
        for name in (*node.input, *node.output):
            if largest.get(name, 0) > _MARGIN * LARGEST:
                found[node.name] = f"reads or makes numbers up to {largest[name]:.1e}"
        sums = _sums(node, largest, shapes)
        if sums > _MARGIN * LARGEST:
            found[node.name] = f"sums may reach {sums:.1e}"
    return found


def _sums(
    node: onnx.NodeProto, largest: dict[str, float], shapes: dict[str, tuple[int, ...]]
) -> float:
    """A bound of what a node adds up, in kernels that add in float16; 0 if it adds nothing."""
    top = [largest.get(name, 0.0) for name in node.input]
    shape = shapes.get(node.input[0], ()) if node.input else ()
    if not shape:
        return 0.0
    terms = shape[-1] if len(shape) < 4 else math.prod(shape[1:])  # channels, or a whole map
    if node.op_type in _SQUARING:
        return terms * top[0] ** 2
    if node.op_type in _SUMMING:
        return terms * top[0]
    if node.op_type == "Attention":  # of tokens (B, N, nh * hd), or of heads (B, nh, N, hd)
        heads = [a.i for a in node.attribute if a.name == "q_num_heads" and a.i]
        return shape[-1] / (heads or [1])[0] * top[0] * top[1]
    return 0.0


def _output_error(graph: _Graph, references: References) -> float:
    """Largest error over all kinds of inputs, infinite for NaN."""
    worst = 0.0
    for number, reference in enumerate(references.at(references.axes.size).values()):
        for row in range(len(reference.logits)):
            answer = graph.outputs(reference.inputs.batch[row : row + 1])[number]
            error = float(np.abs(answer.reshape(-1) - reference.logits[row]).max())
            worst = max(worst, error if math.isfinite(error) else math.inf)
    return worst


def _where_error_grows(
    proto: onnx.ModelProto, emulated: _Graph, islands: Collection[str], images: list[Array]
) -> dict[str, str]:
    """The nodes whose results are farther from their float32 twins than what they read."""
    makers = _makers(proto)
    names = list(makers)
    error = dict.fromkeys((INPUT_NAME, *(w.name for w in proto.graph.initializer)), 0.0)
    pairs = zip(_Graph(proto).results(names, images), emulated.results(names, images), strict=True)
    for (name, truth), (_, ours) in pairs:
        scale = max(float(np.abs(part).max()) for part in truth) or 1.0
        worst = max(float(np.abs(a - b).max()) for a, b in zip(truth, ours, strict=True))
        error[name] = worst / scale if math.isfinite(worst) else math.inf
    growth = {
        node.name: (error[name] - max((error.get(i, 0.0) for i in node.input), default=0.0))
        for name, node in makers.items()
        if node.name not in islands and math.isfinite(error[name])
    }
    count = max(1, int(_STEP * len(makers)))
    chosen = sorted(growth, key=lambda name: (-growth[name], name))[:count]
    return {name: f"error grows by {growth[name]:.1e} of the result" for name in chosen}


def to_float16(
    proto: onnx.ModelProto, references: References
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The graph in float16, and which nodes stayed float32 and why.

    Raises: ExportError if no choice of islands keeps the budget.
    """

    islands = find_islands(proto, references)
    kinds = {node.name: node.op_type for node in proto.graph.node}
    reasons = [f"{kinds[name]} {name}: {why}" for name, why in islands.items()]
    return convert(proto, islands), {"nodes_total": len(kinds), "float32_islands": reasons}
