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

from zoo import InputSpec, PretrainedCfg
from zoo.errors import ExportError

from .axes import Axes
from .comparison.reference import eval_copy
from .description import metadata_of
from .forms import Form
from .graph.program import root_cause, torch_runner
from .parity import ParityReport
from .single_file import read_by_digest, write_verified
from .spec import OUTPUT_NAME, ExportSpec

if TYPE_CHECKING:
    from torch import nn

_METADATA = "convattn.json"


def to_torchscript(
    model: nn.Module,
    path: str | Path,
    spec: ExportSpec | None = None,
    *,
    input: InputSpec | None = None,
) -> ParityReport:
    """Write a model as a traced TorchScript file, verified at batch sizes other than the traced
    one.

    Arguments, result and errors as `export.to_onnx`.
    """

    def write(path: Path, cfg: PretrainedCfg, spec: ExportSpec, axes: Axes, form: Form) -> None:
        write_torchscript(model, path, cfg, spec, axes, form.outputs)

    return write_verified("torchscript", model, path, spec, input, write)


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
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            # check_trace compares with the traced batch only; parity checks others
            traced = torch.jit.trace(
                eval_copy(model).float(), example, check_trace=False, strict=False
            )
            metadata = {_METADATA: json.dumps(metadata_of(cfg, spec, axes, outputs))}
            torch.jit.save(traced, buffer, _extra_files=metadata)
    except (RuntimeError, ValueError, TypeError) as error:
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
    Raises: IntegrityError if the digest differs, ExportError if it cannot be opened.
    """
    import torch

    data = read_by_digest(path, "TorchScript file", sha256)
    extra: dict[str, Any] = {_METADATA: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(io.BytesIO(data), map_location=device, _extra_files=extra)
    except RuntimeError:
        raise ExportError(
            f"{Path(path).name} is not a TorchScript file that torch {torch.__version__} can open"
        ) from None
    return torch_runner(module.eval(), device), json.loads(extra[_METADATA] or "{}")
