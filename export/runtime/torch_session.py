"""Sessions of torch's own formats: TorchScript (.pt) and torch.export archives (.pt2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.catalog.weights_records import InputSpec
from zoo.errors import ConfigError, InputError, MissingDependencyError, ProviderError
from zoo.files.ledger import require_own_code
from zoo.files.listed import read_listed
from zoo.files.local import sha256_bytes

from ..formats.axes import Axes
from ..spec import OUTPUT_NAME
from .batches import prepare_batch
from .providers import SessionSettings
from .session import Session, decode_metadata

Array = np.ndarray[Any, Any]


def open_torch(path: Path, settings: SessionSettings, digest: str | None = None) -> Session:
    """Open a .pt or .pt2 file, which is code: one that this user exported, unless
    `settings.trust_code`.

    Args:
        digest: that it must have; by default the one that it has.
    Raises: ConfigError, ProviderError, MissingDependencyError, ExportError; IntegrityError (code
        "code_not_trusted").
    """
    digest = digest or sha256_bytes(read_listed(path, "exported file"))
    require_own_code(path.name, digest, settings.trust_code)
    _check_settings(path, settings)
    try:
        import torch
    except ImportError:
        raise MissingDependencyError(
            f"{path.name} needs torch, which is not installed; use the .onnx file"
        ) from None
    if settings.provider == "cuda" and not torch.cuda.is_available():
        raise ProviderError(f"torch {torch.__version__} sees no CUDA device to run {path.name} on")
    if path.suffix == ".pt2":
        from ..formats.pt2_file import load_pt2 as load
    else:
        from ..formats.torchscript_file import load_torchscript as load
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


def _check_settings(path: Path, settings: SessionSettings) -> None:
    """Raises: ConfigError for what torch does not heed."""
    if settings.provider not in ("cpu", "cuda"):
        raise ConfigError(
            f"{path.name} runs on cpu or cuda; {settings.provider} takes the .onnx file"
        )
    if settings.threads or settings.level != "all" or settings.cuda_graph:
        raise ConfigError(
            f"threads, levels and CUDA graphs are of onnxruntime; {path.name} runs in torch, whose "
            "threads are the whole process's: set OMP_NUM_THREADS, or use the .onnx file"
        )


def _stated_shape(metadata: Mapping[str, Any]) -> tuple[int | str | None, ...]:
    """(batch, C, H, W) as the metadata say; a traced file itself runs at other sizes, wrongly."""
    stated = metadata.get("input")
    if not isinstance(stated, dict):
        return ("batch", None, "height", "width")
    spec = InputSpec.from_dict(stated)
    return ("batch", spec.in_chans, *Axes.stated(spec.size, metadata).names)
