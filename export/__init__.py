"""Verified export of models to ONNX, TorchScript and torch.export archives.

`export.export_model` writes a directory, `export.to_onnx`, `export.to_pt2` and
`export.to_torchscript` single files; each is compared with a float64 reference before it gets its
final name. `export.verify_directory` repeats the comparison later, also without torch.
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
    from .placement import Placement as Placement
    from .placement import predict_placement as predict_placement
    from .pt2_export import to_pt2 as to_pt2
    from .publication import Bundle as Bundle
    from .publication import write_bundle as write_bundle
    from .publishing import Publication as Publication
    from .publishing import publish as publish
    from .runtime import open_file as open_file
    from .runtime import open_predictor as open_predictor
    from .spec import ExportSpec as ExportSpec
    from .torchscript_export import to_torchscript as to_torchscript
    from .verification import verify_directory as verify_directory

_HOME = {
    "Bundle": "publication",
    "Publication": "publishing",
    "publish": "publishing",
    "write_bundle": "publication",
    "ExportResult": "bundles",
    "ExportSpec": "spec",
    "ParityReport": "parity",
    "Placement": "placement",
    "check_parity": "parity",
    "export_model": "bundles",
    "open_file": "runtime",
    "open_predictor": "runtime",
    "predict_placement": "placement",
    "to_onnx": "onnx_export",
    "to_pt2": "pt2_export",
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
