"""Verified export of models to ONNX and TorchScript.

`export.export_model` writes a directory, `export.to_onnx` and `export.to_torchscript` single files;
each is compared with a float64 reference before it gets its final name. `export.verify_directory`
repeats the comparison later, also without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundles import ExportResult as ExportResult
    from .bundles import export_model as export_model
    from .onnx_export import to_onnx as to_onnx
    from .parity import ParityReport as ParityReport
    from .parity import check_parity as check_parity
    from .runtime import open_file as open_file
    from .runtime import open_predictor as open_predictor
    from .spec import ExportSpec as ExportSpec
    from .torchscript_export import to_torchscript as to_torchscript
    from .verification import verify_directory as verify_directory

_HOME = {
    "ExportResult": "bundles",
    "ExportSpec": "spec",
    "ParityReport": "parity",
    "check_parity": "parity",
    "export_model": "bundles",
    "open_file": "runtime",
    "open_predictor": "runtime",
    "to_onnx": "onnx_export",
    "to_torchscript": "torchscript_export",
    "verify_directory": "verification",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value
