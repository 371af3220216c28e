"""TorchScript by trace. torch deprecates it; everything that touches `torch.jit` lives in this
module.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ExportError, ModelFileError
from zoo.factory.description import PretrainedCfg
from zoo.files.listed import read_listed

from ..graph.checks import root_cause
from ..spec import OUTPUT_NAME, ExportSpec
from .axes import Axes, eval_copy
from .capture import torch_runner
from .metadata import METADATA, metadata_of
from .surroundings import own_failure

if TYPE_CHECKING:
    from torch import nn


_METADATA = "convattn.json"


def write_torchscript(
    model: nn.Module,
    path: Path,
    cfg: PretrainedCfg,
    spec: ExportSpec,
    axes: Axes,
    outputs: Sequence[str] = (OUTPUT_NAME,),
) -> None:
    """Trace and write; no parity. Raises: ExportError, OSError if the file cannot be written."""
    import torch

    example = torch.zeros(2, cfg.input.in_chans, *axes.example)
    copied, buffer = eval_copy(model).float(), io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            # check_trace compares with the traced batch only; parity checks others
            traced = torch.jit.trace(copied, example, check_trace=False, strict=False)
            metadata = {_METADATA: json.dumps(metadata_of(cfg, spec, axes, outputs))}
            torch.jit.save(traced, buffer, _extra_files=metadata)
    except Exception as error:  # torch.jit.trace raises whatever the model's code raises
        with own_failure(model, example.shape[1:]), torch.no_grad():
            copied(example)
        raise ExportError(
            f"torch.jit.trace could not export {cfg.name}: {root_cause(error)}"
        ) from error
    path.write_bytes(_without_debug_records(buffer))


def _without_debug_records(archive: io.BytesIO) -> bytes:
    """The archive without `*.debug_pkl`, which hold source paths of the building machine."""
    import torch

    archive.seek(0)
    cleaned = io.BytesIO()
    reader = torch._C.PyTorchFileReader(archive)
    writer = torch._C.PyTorchFileWriter(cleaned)
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in ("version", ".data/serialization_id"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    return cleaned.getvalue()


def load_torchscript(
    path: str | Path, sha256: str | None = None, device: str = "cpu"
) -> tuple[Any, dict[str, Any]]:
    """Open a TorchScript file. It is code: load only files whose digest you know.

    Args:
        sha256: expected digest; the bytes that were hashed are the bytes that are loaded.
        device: "cpu" or "cuda".
    Returns: a function float32 (B, C, H, W) -> logits, both numpy, and the metadata.
    Raises: IntegrityError if the digest differs, ModelFileError if it cannot be opened.
    """
    import torch

    data = read_listed(path, "TorchScript file", sha256)
    extra: dict[str, Any] = {_METADATA: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(io.BytesIO(data), map_location=device, _extra_files=extra)
    except RuntimeError:
        raise ModelFileError(
            f"{Path(path).name} is not a TorchScript file that torch {torch.__version__} can open"
        ) from None
    return torch_runner(module.eval(), device), METADATA.parse(
        extra[_METADATA] or "{}", Path(path).name
    )
