"""`torch.export` archives (.pt2), the successor of TorchScript: a graph with its weights, no code.

Nothing in the archive names the building machine: stack traces are dropped before it is written.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ExportError, ModelFileError, ProviderError, ZooError
from zoo.factory.description import PretrainedCfg
from zoo.files.listed import read_listed

from ..graph.checks import root_cause
from ..spec import OUTPUT_NAME, ExportSpec
from .aoti_file import is_aoti, open_aoti
from .axes import Axes
from .capture import quiet, torch_runner
from .metadata import METADATA, metadata_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram


_METADATA = "convattn.json"
_GUARDS = "guards"  # in the metadata: whether the program's notes about its example are held


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
    guards = {_GUARDS: "off"} if axes.multiple and axes.unguarded else {}
    metadata = {_METADATA: json.dumps({**metadata_of(cfg, spec, axes, outputs), **guards})}
    try:
        with quiet():
            torch.export.save(program, buffer, extra_files=metadata)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ExportError(f"torch.export could not save {cfg.name}: {root_cause(error)}") from error
    path.write_bytes(buffer.getvalue())


def load_pt2(
    path: str | Path, sha256: str | None = None, device: str = "cpu"
) -> tuple[Any, dict[str, Any]]:
    """Open a torch.export archive, or a package that AOTInductor made of one (for the CPU).

    Args:
        sha256: expected digest; the bytes that were hashed are the bytes that are loaded.
        device: "cpu" or "cuda".
    Returns: a function float32 (B, C, H, W) -> output, both numpy (a tuple if there are several),
        and the metadata.
    Raises: IntegrityError if the digest differs, ModelFileError if it cannot be opened.
    """
    import torch

    data = read_listed(path, "torch.export archive", sha256)
    extra: dict[str, Any] = {_METADATA: ""}
    if is_aoti(data):
        return _load_compiled(data, Path(path).name, device)
    try:
        with quiet():
            program = torch.export.load(io.BytesIO(data), extra_files=extra)
            metadata = METADATA.parse(extra[_METADATA] or "{}", Path(path).name)
            module = program.module(check_guards=metadata.get(_GUARDS) != "off").to(device)
    except ZooError:
        raise
    except Exception:  # a damaged archive fails anywhere: zip, JSON, tensors
        raise _unreadable(Path(path).name, "torch.export archive") from None
    return torch_runner(module, device), metadata


def _load_compiled(data: bytes, name: str, device: str) -> tuple[Any, dict[str, Any]]:
    if device != "cpu":
        raise ProviderError(f"{name} was compiled for the processor; use --provider cpu")
    try:
        with quiet():
            module, said = open_aoti(data)
    except Exception:  # damaged, or for another processor
        raise _unreadable(name, "AOTInductor package for this machine") from None
    return torch_runner(module, device), METADATA.parse(said or "{}", name)


def _unreadable(name: str, what: str) -> ModelFileError:
    import torch

    return ModelFileError(
        f"{name} is not a {what} that torch {torch.__version__} can open; export it again"
    )
