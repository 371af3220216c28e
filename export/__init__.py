"""Verified export of models to ONNX, TorchScript and torch.export archives.

`export.export_model` writes a directory, `export.to_onnx`, `export.to_pt2` and
`export.to_torchscript` single files; each is compared with a float64 reference before it gets its
final name. `export.verify_directory` repeats the comparison later, also without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .directory import ExportResult as ExportResult
    from .directory import export_model as export_model
    from .parity.compare import check_parity as check_parity
    from .parity.report import ParityReport as ParityReport
    from .parity.verify import verify_directory as verify_directory
    from .publishing.bundle import Bundle as Bundle
    from .publishing.bundle import write_bundle as write_bundle
    from .publishing.publish import Publication as Publication
    from .publishing.publish import publish as publish
    from .runtime.opening import open_file as open_file
    from .runtime.opening import open_predictor as open_predictor
    from .runtime.placement import Placement as Placement
    from .runtime.placement import predict_placement as predict_placement
    from .single import to_onnx as to_onnx
    from .single import to_pt2 as to_pt2
    from .single import to_torchscript as to_torchscript
    from .spec import ExportSpec as ExportSpec

_HOME = {
    "Bundle": "publishing.bundle",
    "Publication": "publishing.publish",
    "publish": "publishing.publish",
    "write_bundle": "publishing.bundle",
    "ExportResult": "directory",
    "ExportSpec": "spec",
    "ParityReport": "parity.report",
    "Placement": "runtime.placement",
    "check_parity": "parity.compare",
    "export_model": "directory",
    "open_file": "runtime.opening",
    "open_predictor": "runtime.opening",
    "predict_placement": "runtime.placement",
    "to_onnx": "single",
    "to_pt2": "single",
    "to_torchscript": "single",
    "verify_directory": "parity.verify",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value
