"""Exported files without a parity check, for measurements that only time them or compare shapes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo import PretrainedCfg

from ..axes import axes_of
from ..forms import own_form
from ..graph.program import capture
from ..onnx_export import write_onnx
from ..spec import ExportSpec
from ..torchscript_export import write_torchscript

if TYPE_CHECKING:
    from torch import nn


def write_unverified_onnx(
    model: nn.Module, path: Path, cfg: PretrainedCfg, spec: ExportSpec
) -> None:
    """The graph that `to_onnx` would verify, at the size in `cfg`. Raises: ExportError."""
    axes = axes_of(model, cfg.input, spec)
    program = capture(model, cfg.input.in_chans, axes)
    write_onnx(program, path, cfg, spec, axes, own_form(model).outputs)


def write_unverified_torchscript(
    model: nn.Module, path: Path, cfg: PretrainedCfg, spec: ExportSpec
) -> None:
    """The trace that `to_torchscript` would verify, at the size in `cfg`. Raises: ExportError."""
    axes = axes_of(model, cfg.input, spec)
    write_torchscript(model, path, cfg, spec, axes, own_form(model).outputs)
