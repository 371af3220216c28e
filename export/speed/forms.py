"""The ways to run one model: eager, compiled, TorchScript, ONNX Runtime, OpenVINO."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ConfigError, ProviderError, ZooError
from zoo.factory.description import PretrainedCfg

from ..formats.axes import axes_of
from ..formats.capture import capture
from ..formats.onnx_file import write_onnx
from ..formats.outputs import own_form
from ..formats.torchscript_file import write_torchscript
from ..spec import ExportSpec
from .timing import Say

if TYPE_CHECKING:
    from torch import nn


Array = np.ndarray[Any, Any]
EAGER, COMPILED, SCRIPT = "eager", "torch.compile", "TorchScript"
RUNTIME, OPENVINO = "ONNX Runtime", "OpenVINO"


@dataclass(frozen=True, kw_only=True)
class LatencySettings:
    """What is fixed for all candidates.

    Args:
        size: (height, width) in pixels; None means the model's own.
        batch: images per call.
        threads: of torch, ONNX Runtime and OpenVINO.
        rounds: timed calls per candidate.
        provider: "cpu" or "cuda"; TorchScript and eager move there too.
        compiled: also torch.compile, if there is a C++ compiler.
        limit_s: no new round starts after so many seconds.
        trust_code: run .pt and .pt2 files that this user did not export.
    Raises: ConfigError for a size or count below 1.
    """

    size: tuple[int, int] | None = None
    batch: int = 1
    threads: int = 1
    rounds: int = 30
    provider: str = "cpu"
    compiled: bool = True
    limit_s: float = 60.0
    trust_code: bool = False

    def __post_init__(self) -> None:
        counts = (self.batch, self.threads, *(self.size or (1, 1)))
        if min(counts) < 1:
            raise ConfigError(f"size, batch and threads must be at least 1; got {self}")
        if self.provider not in ("cpu", "cuda"):
            raise ConfigError(f"provider must be cpu or cuda; got {self.provider!r}")


def all_forms(
    model: nn.Module, cfg: PretrainedCfg, settings: LatencySettings, folder: Path, say: Say
) -> tuple[dict[str, Any], dict[str, str]]:
    """Candidate -> a function from a batch to logits, and the candidates that cannot be had."""
    import torch

    model = model.eval().requires_grad_(False).to(settings.provider)
    runs: dict[str, Any] = {EAGER: _torch_runner(model, settings.provider)}
    skipped: dict[str, str] = {}
    why = "" if settings.compiled else "not asked for (--no-compile)"
    why = why or _why_no_compiler(settings.provider)
    if why:
        skipped[COMPILED] = why
    else:
        say("torch.compile compiles at its first call")
        runs[COMPILED] = _torch_runner(torch.compile(model), settings.provider)
    for name, prepare in (
        (SCRIPT, _script_runner), (RUNTIME, _onnx_runner), (OPENVINO, _openvino_runner)
    ):  # fmt: skip
        say(f"preparing {name}")
        try:
            runs[name] = prepare(model, cfg, settings, folder)
        except ZooError as error:
            skipped[name] = first_line(error)
    return runs, skipped


def _torch_runner(model: Any, device: str) -> Any:
    import torch

    def run(batch: Array) -> Array:
        with torch.inference_mode():
            result: Array = model(torch.from_numpy(batch).to(device)).float().cpu().numpy()
        return result

    return run


def _why_no_compiler(provider: str) -> str:
    """Why torch.compile cannot work here, or ""; its CPU code is built by a C++ compiler."""
    names = (os.environ.get("CXX", ""), "g++", "clang++", "c++")
    if provider == "cpu" and not any(name and shutil.which(name) for name in names):
        return "no C++ compiler was found (g++, clang++, c++, or CXX)"
    return ""


def _script_runner(
    model: nn.Module, cfg: PretrainedCfg, settings: LatencySettings, folder: Path
) -> Any:
    from ..formats.torchscript_file import load_torchscript

    path = folder / "model.pt"
    write_unverified_torchscript(model, path, cfg, ExportSpec())
    return load_torchscript(path, device=settings.provider)[0]


def _onnx_runner(
    model: nn.Module, cfg: PretrainedCfg, settings: LatencySettings, folder: Path
) -> Any:
    from ..runtime.opening import open_onnx

    path = folder / "model.onnx"
    write_unverified_onnx(model, path, cfg, ExportSpec())
    return open_onnx(path, settings.provider, threads=settings.threads).run


def _openvino_runner(
    model: nn.Module, cfg: PretrainedCfg, settings: LatencySettings, folder: Path
) -> Any:
    from ..runtime.opening import open_onnx

    if settings.provider != "cpu":
        raise ProviderError("it runs on the processor only")
    return open_onnx(folder / "model.onnx", "openvino", threads=settings.threads).run


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


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
