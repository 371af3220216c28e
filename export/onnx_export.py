"""ONNX by torch's dynamo exporter: one file, dynamic batch, standard operators, nothing of the
machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import InputSpec, PretrainedCfg
from zoo.errors import ExportError

from .axes import Axes
from .description import metadata_of
from .forms import Form
from .graph.checks import check_graph, check_opset, check_size, clean
from .graph.program import capture, quiet, root_cause
from .graph.rewrites import simplify
from .parity import ParityReport
from .single_file import write_verified
from .spec import INPUT_NAME, OUTPUT_NAME, ExportSpec

if TYPE_CHECKING:
    import onnx
    from torch import nn
    from torch.export import ExportedProgram


def to_onnx(
    model: nn.Module,
    path: str | Path,
    spec: ExportSpec | None = None,
    *,
    input: InputSpec | None = None,
) -> ParityReport:
    """Write a model as one ONNX file, verified on the CPU provider.

    The model passed in is copied, never changed. The file appears at `path` only if every batch
    size and image size of `spec` agrees with the float64 reference.

    Args:
        input: preprocessing of a model that `zoo.create_model` did not build; of one that it did,
            the image size to export at.
    Returns: the (passing) report.
    Raises: ExportError (the exporter failed), ParityError (too far from the reference),
        ResourceError.
    """

    def write(path: Path, cfg: PretrainedCfg, spec: ExportSpec, axes: Axes, form: Form) -> None:
        program = capture(model, cfg.input.in_chans, axes)
        write_onnx(program, path, cfg, spec, axes, form.outputs)

    check_size(weights_size(model), type(model).__name__)
    return write_verified("onnx", model, path, spec, input, write)


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
    check_size(proto.ByteSize(), name)
    check_graph(proto, opset, name)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def translate(
    program: ExportedProgram,
    cfg: PretrainedCfg,
    spec: ExportSpec,
    axes: Axes,
    outputs: Sequence[str] = (OUTPUT_NAME,),
) -> onnx.ModelProto:
    """The ONNX graph of a captured program, without traces of the machine. Raises: ExportError."""
    import torch

    check_opset(spec.opset)
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
    simplify(proto)
    clean(proto)
    return proto
