"""ONNX by torch's dynamo exporter: one file, dynamic batch, standard operators, nothing of the
machine.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import InputSpec, PretrainedCfg
from zoo._version import __version__
from zoo.errors import ConfigError, ExportError, ParityError
from zoo.files import atomic_path

from .parity import ParityReport, check_parity
from .reference import Reference, compute_reference, eval_copy
from .samples import make_inputs
from .spec import INPUT_NAME, OUTPUT_NAME, ExportSpec

if TYPE_CHECKING:
    import onnx
    from torch import nn


def describe(model: nn.Module, input: InputSpec | None = None) -> PretrainedCfg:
    """What an export says about a model: its `pretrained_cfg`, or an anonymous one for `input`.

    Raises: ConfigError if the model has none and no `input` is given.
    """
    cfg = PretrainedCfg.of(model)
    if cfg is not None:
        return cfg
    if input is None:
        raise ConfigError(
            f"{type(model).__name__} does not say what its input is; pass input=InputSpec(size=...)"
        )
    return PretrainedCfg(architecture="", architecture_version=0, num_classes=0, input=input)


def package_versions() -> dict[str, str]:
    """Versions of what writes and runs exports; packages that are not installed are left out."""
    from importlib import metadata

    found = {"convattn-zoo": __version__}
    for name in ("torch", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def metadata_of(cfg: PretrainedCfg, spec: ExportSpec) -> dict[str, str]:
    """Key-value pairs that travel inside an exported file; structured ones are JSON."""
    versions = package_versions()
    return {
        "name": cfg.name,
        "version": cfg.version,
        "architecture": cfg.architecture,
        "architecture_version": str(cfg.architecture_version),
        "weights_sha256": cfg.sha256,
        "input": json.dumps(cfg.input.to_dict()),
        "labels": json.dumps(list(cfg.labels), ensure_ascii=False),
        "licence": cfg.licence,
        "opset": str(spec.opset),
        "exporter": f"convattn-zoo {__version__}, torch {versions.get('torch', '')}, "
        f"onnxscript {versions.get('onnxscript', '')}",
    }


def to_onnx(
    model: nn.Module,
    path: str | Path,
    spec: ExportSpec | None = None,
    *,
    input: InputSpec | None = None,
) -> ParityReport:
    """Write a model as one ONNX file with a dynamic batch, verified on the CPU provider.

    The model passed in is copied, never changed. The file appears at `path` only if every batch
    size of `spec` agrees with the float64 reference.

    Args:
        input: preprocessing of a model that `zoo.create_model` did not build.
    Returns: the (passing) report.
    Raises: ExportError (the exporter failed), ParityError (too far from the reference),
        ResourceError.
    """
    from .runtime import open_onnx

    spec = spec or ExportSpec()
    cfg = describe(model, input)
    reference = compute_reference(model, make_inputs(cfg.input, spec.seed), spec.batches)
    with atomic_path(path) as temporary:
        write_onnx(model, temporary, cfg, spec)
        session = open_onnx(temporary)
        rows = check_parity(session.run, reference, Path(path).name, session.provider, spec)
        report = ParityReport(
            cfg.name, cfg.version, cfg.sha256, rows, {Path(path).name: session.attestation},
            package_versions(),
        )  # fmt: skip
        require_parity(report)
    return report


def require_parity(report: ParityReport) -> None:
    """Raises: ParityError that names the worst row; the report is its attribute `report`."""
    if report:
        return
    worst = max(report.failures, key=lambda row: row.max_abs_error / (row.limit or 1e-30))
    error = ParityError(
        f"{worst.file} differs from the float64 reference by {worst.max_abs_error:.2e} on "
        f"{worst.inputs} "
        f"inputs at batch {worst.batch}; at most {worst.limit:.2e} passes (eager float32: "
        f"{worst.eager_max_abs_error:.2e}, equal top-1: {worst.top1_agreement:.1%}). Nothing was "
        f"written"
    )
    error.report = report  # type: ignore[attr-defined]
    raise error


def write_onnx(model: nn.Module, path: Path, cfg: PretrainedCfg, spec: ExportSpec) -> None:
    """Export, clean, check and write; no parity. Raises: ExportError."""
    import onnx

    proto = _export_proto(model, cfg.input, spec)
    _clean(proto)
    del proto.metadata_props[:]
    for key, value in metadata_of(cfg, spec).items():
        proto.metadata_props.add(key=key, value=value)
    _check(proto, spec)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph of {cfg.name} is not valid ONNX: {error}") from None
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _export_proto(model: nn.Module, input: InputSpec, spec: ExportSpec) -> onnx.ModelProto:
    import torch

    example = torch.zeros(2, input.in_chans, *input.size)
    try:
        with _quiet():
            program = torch.onnx.export(
                eval_copy(model).float(),
                (example,),
                dynamo=True,
                opset_version=spec.opset,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        raise ExportError(
            f"torch.onnx could not export {type(model).__name__}: {root_cause(error)}"
        ) from error
    assert program is not None  # dynamo=True returns the program
    return program.model_proto


def root_cause(error: BaseException) -> str:
    """First line of the innermost exception: the exporters wrap the cause in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter out of stdout and its deprecation notes out of the caller's
    way.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _clean(proto: onnx.ModelProto) -> None:
    """Drop what tells of the machine: stack traces and scopes of every node and value."""
    graphs = [proto.graph, *proto.functions]
    for graph in graphs:
        graph.doc_string = ""
        del graph.metadata_props[:]
        for part in (*graph.node, *graph.value_info):
            part.doc_string = ""
            del part.metadata_props[:]
    for part in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def _check(proto: onnx.ModelProto, spec: ExportSpec) -> None:
    """Raises: ExportError if the file is not what was asked for: opset, domain, control flow,
    axes.
    """
    opsets = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    if opsets.get("ai.onnx") != spec.opset:
        raise ExportError(
            f"asked for opset {spec.opset}, the exporter wrote {opsets.get('ai.onnx')}; use opset "
            f"18, "
            "20 or 23"
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


def reference_for(model: nn.Module, cfg: PretrainedCfg, spec: ExportSpec) -> Reference:
    """The float64 reference of a model on the standard inputs."""
    return compute_reference(model, make_inputs(cfg.input, spec.seed), spec.batches)
