"""What an exported file says of itself and holds. Nothing in it is run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from zoo.files.listed import read_listed
from zoo.files.local import sha256_bytes

from .model_files import read_model
from .session import decode_metadata


def facts_of_file(path: str | Path) -> dict[str, Any]:
    """Facts of a .onnx, .pt or .pt2 file as JSON values.

    Raises: NotFoundError, ResourceError; ExportError, IntegrityError for a damaged .onnx file.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        data = read_listed(path, "exported file")
        kind = {".pt": "TorchScript", ".pt2": "torch.export archive"}[path.suffix]
        facts = {"file": path.name, "kind": f"{kind}: code of torch's, which was not opened"}
        return {**facts, "size_bytes": len(data), "sha256": sha256_bytes(data)}
    return _facts_of_onnx(path)


def _facts_of_onnx(path: Path) -> dict[str, Any]:
    import onnx

    read = read_model(path)
    model = onnx.load_model_from_string(read.data)
    graph = model.graph
    weights = {entry.name for entry in graph.initializer}
    operators = Counter(node.op_type for node in graph.node)
    return {
        "file": path.name,
        "kind": "ONNX",
        "size_bytes": len(read.data),
        "sha256": sha256_bytes(read.data),
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "inputs": {v.name: _shape(v) for v in graph.input if v.name not in weights},
        "outputs": {value.name: _shape(value) for value in graph.output},
        "nodes": len(graph.node),
        "operators": dict(operators.most_common()),
        "initializers": len(graph.initializer),
        "says": decode_metadata({entry.key: entry.value for entry in model.metadata_props}),
    }


def _shape(value: Any) -> list[int | str]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_param or int(dim.dim_value) for dim in dims]
