"""What an exported file says of itself, and who wrote it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo import InputSpec, PretrainedCfg
from zoo._version import __version__
from zoo.errors import ConfigError, ParityError

from .axes import Axes, at_size
from .parity import ParityReport
from .spec import OUTPUT_NAME, ExportSpec

if TYPE_CHECKING:
    from torch import nn


def describe(model: nn.Module, input: InputSpec | None = None) -> PretrainedCfg:
    """What an export says about a model: its `pretrained_cfg`, or an anonymous one for `input`.

    Args: input: replaces the model's own preprocessing, e.g. to export at another image size.
    Raises: ConfigError if the model has none and no `input` is given.
    """
    cfg = PretrainedCfg.of(model)
    if cfg is not None:
        return cfg if input is None else replace(cfg, input=input)
    if input is None:
        raise ConfigError(
            f"{type(model).__name__} does not say what its input is; pass input=InputSpec(size=...)"
        )
    return PretrainedCfg(architecture="", architecture_version=0, num_classes=0, input=input)


def describe_for(model: nn.Module, spec: ExportSpec, input: InputSpec | None) -> PretrainedCfg:
    """`describe`, at the image size that the spec asks for."""
    cfg = describe(model, input)
    return cfg if spec.img_size is None else replace(cfg, input=at_size(cfg.input, spec.img_size))


def package_versions() -> dict[str, str]:
    """Versions of what writes and runs exports; packages that are not installed are left out."""
    from importlib import metadata

    found = {"convattn-zoo": __version__}
    for name in ("torch", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def metadata_of(
    cfg: PretrainedCfg,
    spec: ExportSpec,
    axes: Axes | None = None,
    outputs: Sequence[str] = (OUTPUT_NAME,),
    precision: str = "float32",
) -> dict[str, str]:
    """Key-value pairs that travel inside an exported file; structured ones are JSON."""
    versions = package_versions()
    return {
        "name": cfg.name,
        "version": cfg.version,
        "architecture": cfg.architecture,
        "architecture_version": str(cfg.architecture_version),
        "weights_sha256": cfg.sha256,
        "input": json.dumps(cfg.input.to_dict()),
        "size_multiple": str(axes.multiple if axes else 0),
        "outputs": json.dumps(list(outputs)),
        "precision": precision,
        "labels": json.dumps(list(cfg.labels), ensure_ascii=False),
        "licence": cfg.licence,
        "opset": str(spec.opset),
        "exporter": f"convattn-zoo {__version__}, torch {versions.get('torch', '')}, "
        f"onnxscript {versions.get('onnxscript', '')}",
    }


def require_parity(report: ParityReport, allow_drift: bool = False) -> None:
    """Raises: ParityError that names the worst row; the report is its attribute `report`."""
    if report or (allow_drift and report.rows):
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
