"""`torch.export` archives (.pt2), the successor of TorchScript: a graph with its weights, no code.

Nothing in the archive names the building machine: stack traces are dropped before it is written.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import InputSpec, PretrainedCfg
from zoo.errors import ExportError

from .axes import Axes
from .description import metadata_of
from .forms import Form
from .graph.program import capture, quiet, root_cause, torch_runner
from .parity import ParityReport
from .single_file import read_by_digest, write_verified
from .spec import OUTPUT_NAME, ExportSpec

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

_METADATA = "convattn.json"


def to_pt2(
    model: nn.Module,
    path: str | Path,
    spec: ExportSpec | None = None,
    *,
    input: InputSpec | None = None,
) -> ParityReport:
    """Write a model as a torch.export archive, verified at every batch size of `spec`.

    Arguments, result and errors as `export.to_onnx`.
    """

    def write(path: Path, cfg: PretrainedCfg, spec: ExportSpec, axes: Axes, form: Form) -> None:
        write_pt2(capture(model, cfg.input.in_chans, axes), path, cfg, spec, axes, form.outputs)

    return write_verified("pt2", model, path, spec, input, write)


def write_pt2(
    program: ExportedProgram,
    path: Path,
    cfg: PretrainedCfg,
    spec: ExportSpec,
    axes: Axes,
    outputs: Sequence[str] = (OUTPUT_NAME,),
) -> None:
    """Write a captured program; no parity. Raises: ExportError, OSError."""
    import torch

    buffer = io.BytesIO()
    metadata = {_METADATA: json.dumps(metadata_of(cfg, spec, axes, outputs))}
    try:
        with quiet():
            torch.export.save(program, buffer, extra_files=metadata)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ExportError(f"torch.export could not save {cfg.name}: {root_cause(error)}") from error
    path.write_bytes(buffer.getvalue())


def load_pt2(
    path: str | Path, sha256: str | None = None, device: str = "cpu"
) -> tuple[Any, dict[str, Any]]:
    """Open a torch.export archive.

    Args:
        sha256: expected digest; the bytes that were hashed are the bytes that are loaded.
        device: "cpu" or "cuda".
    Returns: a function float32 (B, C, H, W) -> output, both numpy (a tuple if there are several),
        and the metadata.
    Raises: IntegrityError if the digest differs, ExportError if it cannot be opened.
    """
    import torch

    data = read_by_digest(path, "torch.export archive", sha256)
    extra: dict[str, Any] = {_METADATA: ""}
    try:
        with quiet():
            program = torch.export.load(io.BytesIO(data), extra_files=extra)
            module = program.module().to(device)
    except Exception:  # a damaged archive fails anywhere: zip, JSON, tensors
        raise ExportError(
            f"{Path(path).name} is not a torch.export archive that torch {torch.__version__} can "
            "open; export it again"
        ) from None
    return torch_runner(module, device), json.loads(extra[_METADATA] or "{}")
