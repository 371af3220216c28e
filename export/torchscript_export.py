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
from zoo.errors import ExportError, IntegrityError
from zoo.files import atomic_path, read_regular_file, sha256_bytes

from .axes import Axes, axes_of
from .description import describe_for, metadata_of, package_versions, require_parity
from .forms import own_form
from .measuring import References, check_file
from .parity import ParityReport
from .program import root_cause, torch_runner
from .reference import eval_copy
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
    spec = spec or ExportSpec()
    cfg = describe_for(model, spec, input)
    form, axes = own_form(model), axes_of(model, cfg.input, spec)
    references = References(form, cfg, spec, axes)
    with atomic_path(path) as temporary:
        write_torchscript(model, temporary, cfg, spec, axes, form.outputs)
        rows, _ = check_file(temporary, "torchscript", Path(path).name, references)
        report = ParityReport(cfg.name, cfg.version, cfg.sha256, rows, {}, package_versions())
        require_parity(report)
    return report


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

    data = read_regular_file(path, "TorchScript file")
    if sha256 is not None and sha256_bytes(data) != sha256:
        raise IntegrityError(
            f"{Path(path).name} has SHA-256 {sha256_bytes(data)}, expected {sha256}; export it "
            f"again",
            code="hash",
        )
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
