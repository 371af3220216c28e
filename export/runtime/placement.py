"""Where ONNX Runtime would put every node of a graph on a machine with a GPU, said without one.

A node runs on CUDA if the provider registers a kernel for its operator, version and types
(ort_cuda_kernels.json, read out of a released wheel; its header says how). The runtime then moves
some of these back: operators that only compute shapes, because their input is on the CPU anyway
(onnxruntime, core/framework/fallback_cpu_capability.cc). Registration is necessary, not sufficient:
what a session reports on a real GPU wins.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog.checked_json import parse_json

from ..graph.checks import load_model
from .typed_graph import TypedGraph

if TYPE_CHECKING:
    import onnx


TABLE = Path(__file__).with_name("ort_cuda_kernels.json")

# Operators whose newest version has no CUDA kernel in the table; files may leave these to the CPU.
KNOWN_GAPS: Mapping[str, str] = {
    "MaxPool": "kernels end at opset 21, onnxruntime issue 26393",
}
# What computes shapes in files of dynamic height and width; onnxruntime runs it on the CPU.
SHAPE_OPERATORS = frozenset(
    "Add Cast Ceil Concat ConstantOfShape Div Equal Expand Floor Gather Max Min Mod Mul Neg Range "
    "ReduceProd Reshape Shape Size Slice Sqrt Squeeze Sub Unsqueeze Where".split()
)
# CUDA kernels whose result lies in CPU memory; their consumers are candidates for the CPU.
_CPU_OUTPUT = frozenset({"Shape", "Size"})
# Inputs that CUDA kernels themselves want in CPU memory; such a consumer stays on the GPU.
_CPU_INPUT: Mapping[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceProd": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
_SMALL = 100  # elements; an initialiser of at most this size does not keep a node on the GPU


@dataclass(frozen=True)
class Placement:
    """Where the nodes of a graph would run. True if all of them run on CUDA.

    Args:
        nodes: how many nodes there are, after constants are folded.
        off_cuda: (name or first output, operator, reason) of every node that would run on the CPU.
        onnxruntime: the version whose kernels were looked up.
    """

    nodes: int
    off_cuda: tuple[tuple[str, str, str], ...]
    onnxruntime: str = ""

    def __bool__(self) -> bool:
        return not self.off_cuda

    def outside(self, allowed: Iterable[str] = ()) -> tuple[tuple[str, str, str], ...]:
        """Nodes off CUDA whose operator is not in `allowed`."""
        return tuple(entry for entry in self.off_cuda if entry[1] not in set(allowed))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "nodes": self.nodes,
            "off_cuda": [list(entry) for entry in self.off_cuda],
            "predicted_for": f"onnxruntime-gpu {self.onnxruntime}",
        }


def predict_placement(model: str | Path | onnx.ModelProto) -> Placement:
    """Predict the placement of a graph on the CUDA provider; needs no GPU.

    Args:
        model: an ONNX file or model.
    Raises: ExportError if the file is not ONNX, or types cannot be inferred.
    """
    graph = TypedGraph.of(load_model(model))
    reasons: dict[int, str] = {}
    for number, node in enumerate(graph.nodes):
        why = _no_kernel(node, graph)
        if why:
            reasons[number] = why
    reasons |= _shape_nodes(graph, reasons)
    off = tuple(
        (node.name or node.output[0], node.op_type, reasons[number])
        for number, node in enumerate(graph.nodes)
        if number in reasons
    )
    return Placement(len(graph.nodes), off, _kernels()["version"])


@functools.cache
def _kernels() -> dict[str, Any]:
    content = parse_json(TABLE.read_bytes())
    version = content["header"]["source"].partition("onnxruntime-gpu ")[2].partition(" ")[0]
    return {"version": version, **content["kernels"]}


def _no_kernel(node: onnx.NodeProto, graph: TypedGraph) -> str:
    """Why no registered kernel takes a node, or nothing."""
    import onnx

    domain = node.domain or "ai.onnx"
    rows = _kernels().get(domain, {}).get(node.op_type)
    if rows is None:
        return f"CUDA has no {node.op_type}"
    if node.op_type == "Cast" and "string" in (
        graph.types.get(node.input[0]), graph.types.get(node.output[0])
    ):  # fmt: skip
        return "CUDA casts no strings"
    if domain != "ai.onnx":
        since, bound = 1, {}
    else:
        schema = onnx.defs.get_schema(node.op_type, graph.opsets["ai.onnx"], "")
        since, bound = schema.since_version, _bind(node, schema, graph.types)
    version = [row for row in rows if _takes_version(row["opset_range"], since)]
    if not version:
        return f"CUDA has no {node.op_type} of opset {since}"
    for row in version:
        if all(bound.get(key, kinds[0]) in kinds for key, kinds in row["types"].items()):
            return ""
    said = ", ".join(f"{key} {value}" for key, value in sorted(bound.items()))
    return f"CUDA has no {node.op_type} for {said}"


def _takes_version(limits: tuple[int, int | None], since: int) -> bool:
    """A range with an open end takes only its first version: the runtime trusts no newer one."""
    first, last = limits
    return since == first if last is None else first <= since <= last


def _bind(node: onnx.NodeProto, schema: Any, types: Mapping[str, str]) -> dict[str, str]:
    """Element types of a node by type parameter ("T") and by name of the formal parameter."""
    bound: dict[str, str] = {}
    for actual, formals in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for name, formal in _pairs(actual, formals):
            if name in types:
                bound.setdefault(formal.type_str, types[name])
                bound.setdefault(formal.name, types[name])
    return bound


def _pairs(actual: Iterable[str], formals: list[Any]) -> Iterator[tuple[str, Any]]:
    """Values with their formal parameters; the last formal parameter may be variadic."""
    for number, name in enumerate(actual):
        if formals:
            yield name, formals[min(number, len(formals) - 1)]


def _shape_nodes(graph: TypedGraph, elsewhere: Mapping[int, str]) -> dict[int, str]:
    """Nodes that have a kernel and still go to the CPU, because they only compute shapes.

    A consumer of a CPU value goes there if every input is on the CPU or small and constant, none is
    half precision, and its kernel did not ask for that input in CPU memory.
    """
    on_cpu: set[str] = set()
    moved: dict[int, str] = {}
    for number, node in enumerate(graph.nodes):  # topological order: one pass is enough
        if number in elsewhere:
            continue
        if node.op_type in _CPU_OUTPUT:
            on_cpu |= set(node.output)
        elif on_cpu & set(node.input) and _only_shapes(node, on_cpu, graph):
            moved[number] = "it computes shapes, which onnxruntime does on the CPU"
            on_cpu |= set(node.output)
    return moved


def _only_shapes(node: onnx.NodeProto, on_cpu: set[str], graph: TypedGraph) -> bool:
    for place, name in enumerate(node.input):
        if graph.types.get(name) in ("float16", "bfloat16"):
            return False
        small = name in graph.constants and graph.constants[name] <= _SMALL
        if not name or small or name in graph.inputs:
            continue
        if name not in on_cpu or place in _CPU_INPUT.get(node.op_type, ()):
            return False
    return True
