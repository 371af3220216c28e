"""Sessions of torch's own formats: TorchScript (.pt) and torch.export archives (.pt2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo import InputSpec
from zoo.errors import ConfigError, InputError, MissingDependencyError, ProviderError

from ..axes import Axes
from ..comparison.batches import prepare_batch
from ..spec import OUTPUT_NAME
from .providers import SessionSettings
from .session import Session, decode_metadata

Array = np.ndarray[Any, Any]


def open_torch(path: Path, settings: SessionSettings, digest: str) -> Session:
    """Open a .pt or .pt2 file, which is code: its digest must be the one that we know.

    Raises: ConfigError, ProviderError, MissingDependencyError, IntegrityError, ExportError.
    """
    if settings.provider == "tensorrt":
        raise ConfigError(f"{path.name} runs on cpu or cuda; TensorRT takes the .onnx file")
    try:
        import torch
    except ImportError:
        raise MissingDependencyError(
            f"{path.name} needs torch, which is not installed; use the .onnx file"
        ) from None
    if settings.provider == "cuda" and not torch.cuda.is_available():
        raise ProviderError(f"torch {torch.__version__} sees no CUDA device to run {path.name} on")
    if path.suffix == ".pt2":
        from ..pt2_export import load_pt2 as load
    else:
        from ..torchscript_export import load_torchscript as load
    run, raw = load(path, digest, settings.provider)
    metadata = decode_metadata(raw)
    shape, names = _stated_shape(metadata), metadata.get("outputs") or [OUTPUT_NAME]

    def run_named(batch: Array) -> dict[str, Array]:
        ready = prepare_batch(batch, shape, "tensor(float)")
        try:
            answer = run(ready)
        except RuntimeError:
            raise InputError(f"{path.name} refused an input of shape {ready.shape}") from None
        parts = answer if isinstance(answer, tuple) else (answer,)
        return dict(zip(names, parts, strict=True))

    provider = "torch-cuda" if settings.provider == "cuda" else "torch-cpu"
    return Session(run_named, provider, metadata, {}, shape, names[0])


def _stated_shape(metadata: Mapping[str, Any]) -> tuple[int | str | None, ...]:
    """(batch, C, H, W) as the metadata say; a traced file itself runs at other sizes, wrongly."""
    stated = metadata.get("input")
    if not isinstance(stated, dict):
        return ("batch", None, "height", "width")
    spec = InputSpec.from_dict(stated)
    axes = Axes(spec.size, int(metadata.get("size_multiple") or 0))
    return ("batch", spec.in_chans, *axes.names)
