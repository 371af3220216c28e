"""ONNX by torch's dynamo exporter: one file, dynamic batch, standard operators, nothing of the
machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ExportError
from zoo.factory.description import PretrainedCfg

from ..graph.checks import check_graph, check_size, clean, forget_weight_shapes, root_cause
from ..graph.rewrites import simplify
from ..spec import INPUT_NAME, OUTPUT_NAME, ExportSpec
from .axes import Axes
from .capture import quiet
from .metadata import metadata_of

if TYPE_CHECKING:
    import onnx
    from torch import nn
    from torch.export import ExportedProgram


def weights_size(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers in float32."""
    return 4 * sum(tensor.numel() for tensor in model.state_dict().values())


def write_onnx(
    program: ExportedProgram,
    path: Path,
    cfg: PretrainedCfg,
    spec: ExportSpec,
    axes: Axes,
    outputs: Sequence[str] = (OUTPUT_NAME,),
) -> None:
    """Translate, check and write; no parity. Raises: ExportError."""
    proto = translate(program, cfg, spec, axes, outputs)
    save_onnx(proto, path, metadata_of(cfg, spec, axes, outputs), spec.opset, cfg.name)


def save_onnx(
    proto: onnx.ModelProto, path: Path, metadata: dict[str, str], opset: int, name: str
) -> None:
    """Check a graph and write it with its metadata, the same bytes every time.

    Raises: ExportError.
    """
    del proto.metadata_props[:]
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    forget_weight_shapes(proto)
    check_size(proto.ByteSize(), name)
    check_graph(proto, opset, name)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def name_axes(proto: onnx.ModelProto, axes: Axes) -> None:
    """Give height and width their names, in all shapes of a graph made with `Dim.AUTO`, which calls
    them s53 and the like.
    """
    graph = proto.graph
    sides = graph.input[0].type.tensor_type.shape.dim[2:]
    names = {
        side.dim_param: str(name)
        for side, name in zip(sides, axes.names, strict=True)
        if re.fullmatch(r"s\d+", side.dim_param)
    }
    if not names:
        return
    symbol = re.compile(rf"\b({'|'.join(names)})\b")
    for value in (*graph.input, *graph.output, *graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_param = symbol.sub(lambda found: names[found[0]], side.dim_param)


def translate(
    program: ExportedProgram,
    cfg: PretrainedCfg,
    spec: ExportSpec,
    axes: Axes,
    outputs: Sequence[str] = (OUTPUT_NAME,),
) -> onnx.ModelProto:
    """The ONNX graph of a captured program, without traces of the machine. Raises: ExportError."""
    import torch

    try:
        with quiet():
            result = torch.onnx.export(
                program,
                opset_version=spec.opset,
                input_names=[INPUT_NAME],
                output_names=list(outputs),
                dynamic_shapes=axes.dynamic_shapes(),
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        raise ExportError(f"torch.onnx could not write {cfg.name}: {root_cause(error)}") from error
    assert result is not None  # the dynamo exporter returns the program
    proto = result.model_proto
    name_axes(proto, axes)
    simplify(proto)
    clean(proto)
    return proto
