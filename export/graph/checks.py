"""What a written graph must be: of the opset asked for, standard, without control flow, below
2 GB, and silent about the machine that wrote it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ExportError, MissingDependencyError
from zoo.files.listed import read_listed

if TYPE_CHECKING:
    import onnx


SIZE_LIMIT = 2_000_000_000  # bytes; a protocol buffer ends at 2 GiB, and files are written whole


def check_size(size_bytes: int, name: str) -> None:
    """Raises: ExportError for a model whose file would not fit in one protocol buffer."""
    if size_bytes > SIZE_LIMIT:
        raise ExportError(
            f"{name} has {size_bytes / 1e9:.1f} GB of weights; an ONNX file holds less than "
            f"{SIZE_LIMIT / 1e9:.0f} GB. Export it as .pt2 or in a smaller precision",
            code="too_large",
        )


def clean(proto: onnx.ModelProto) -> None:
    """Drop what tells of the machine: stack traces and scopes of every node and value."""
    for graph in (proto.graph, *proto.functions):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for part in (*graph.node, *graph.value_info):
            part.doc_string = ""
            del part.metadata_props[:]
    for part in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def forget_weight_shapes(proto: onnx.ModelProto) -> None:
    """Drop stated shapes of initialisers, which state their own: tools that transpose a weight,
    onnxruntime's quantiser among them, leave the second statement behind and contradict it.
    """
    weights = {weight.name for weight in proto.graph.initializer}
    kept = [value for value in proto.graph.value_info if value.name not in weights]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)


def check_graph(proto: onnx.ModelProto, opset: int, name: str) -> None:
    """Raises: ExportError if the file is not what was asked for: opset, domain, control flow,
    axes, or not valid at all.
    """
    import onnx

    opsets = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    if opsets.get("ai.onnx") != opset:
        raise ExportError(
            f"asked for opset {opset}, the exporter wrote {opsets.get('ai.onnx')}; use opset 18, "
            "20 or 23",
            code="opset",
        )
    foreign = {n.domain for n in proto.graph.node if n.domain not in ("", "ai.onnx")}
    if foreign or proto.functions:
        raise ExportError(f"the graph needs operators of other domains: {sorted(foreign)}")
    control = {n.op_type for n in proto.graph.node} & {"If", "Loop", "Scan"}
    if control:
        raise ExportError(f"the graph has control flow: {', '.join(sorted(control))}")
    batch = proto.graph.input[0].type.tensor_type.shape.dim[0]
    if not batch.dim_param:
        raise ExportError(
            f"the exporter fixed the batch at {batch.dim_value}: the model's forward depends on it"
        )
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph of {name} is not valid ONNX: {error}") from None


def load_model(model: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    """A model from a file, or as it is.

    Raises: ExportError, ResourceError, MissingDependencyError without the onnx package.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise MissingDependencyError("looking into a graph needs onnx: pip install onnx") from None

    if isinstance(model, onnx.ModelProto):
        return model
    try:
        return onnx.ModelProto.FromString(read_listed(model, "ONNX file"))
    except DecodeError:
        raise ExportError(
            f"{Path(model).name} is not an ONNX model, or is damaged; export it again"
        ) from None


def root_cause(error: BaseException) -> str:
    """First line of the innermost exception: the exporters wrap the cause in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
