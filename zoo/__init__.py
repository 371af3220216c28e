"""ConvAttn Zoo: vision models in which convolution meets self-attention.

Names are resolved on first use, so that `import zoo` and `zoo.list_models()` never load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .blocks import to_blocks as to_blocks
    from .errors import ZooError as ZooError
    from .factory import create_model as create_model
    from .fetching import fetch_model as fetch_model
    from .hub_models import from_pretrained as from_pretrained
    from .importing import import_checkpoint as import_checkpoint
    from .prediction import Prediction as Prediction
    from .prediction import Predictor as Predictor
    from .preprocessing import build_transform as build_transform
    from .pretrained import PretrainedCfg as PretrainedCfg
    from .records import InputSpec as InputSpec
    from .records import ModelRecord as ModelRecord
    from .records import WeightsRecord as WeightsRecord
    from .registry import get_record as get_record
    from .registry import list_families as list_families
    from .registry import list_models as list_models
    from .registry import register_weights as register_weights

_HOME = {
    "to_blocks": "blocks",
    "ZooError": "errors",
    "create_model": "factory",
    "fetch_model": "fetching",
    "from_pretrained": "hub_models",
    "import_checkpoint": "importing",
    "Prediction": "prediction",
    "Predictor": "prediction",
    "build_transform": "preprocessing",
    "InputSpec": "records",
    "ModelRecord": "records",
    "PretrainedCfg": "pretrained",
    "WeightsRecord": "records",
    "get_record": "registry",
    "list_families": "registry",
    "list_models": "registry",
    "register_weights": "registry",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
