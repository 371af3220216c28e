"""ConvAttn Zoo: vision models in which convolution meets self-attention.

Names are resolved on first use, so that `import zoo` and `zoo.list_models()` never load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"  # a literal: a torch.hub checkout has no installed metadata to ask

if TYPE_CHECKING:
    from . import analysis as analysis
    from .catalog.records import ModelRecord as ModelRecord
    from .catalog.registry import get_record as get_record
    from .catalog.registry import list_families as list_families
    from .catalog.registry import list_models as list_models
    from .catalog.registry import register_weights as register_weights
    from .catalog.weights_records import InputSpec as InputSpec
    from .catalog.weights_records import WeightsRecord as WeightsRecord
    from .data.opening import open_dataset as open_dataset
    from .data.preprocessing import build_transform as build_transform
    from .errors import ZooError as ZooError
    from .evaluation.evaluate import evaluate as evaluate
    from .evaluation.predictor import Prediction as Prediction
    from .evaluation.predictor import Predictor as Predictor
    from .factory.create import create_model as create_model
    from .factory.create import from_pretrained as from_pretrained
    from .factory.description import PretrainedCfg as PretrainedCfg
    from .factory.importing.importing import import_checkpoint as import_checkpoint
    from .factory.timm_registry import register_in_timm as register_in_timm
    from .files.fetch import fetch_model as fetch_model
    from .models._views import to_blocks as to_blocks
    from .training.job import Job as Job
    from .training.run import train_model as train

# name -> module, or module:name where the module says it differently, or the module itself
_HOME = {
    "analysis": "analysis",
    "open_dataset": "data.opening",
    "evaluate": "evaluation.evaluate",
    "train": "training.run:train_model",
    "Job": "training.job",
    "to_blocks": "models._views",
    "ZooError": "errors",
    "create_model": "factory.create",
    "fetch_model": "files.fetch",
    "from_pretrained": "factory.create",
    "import_checkpoint": "factory.importing.importing",
    "Prediction": "evaluation.predictor",
    "Predictor": "evaluation.predictor",
    "build_transform": "data.preprocessing",
    "InputSpec": "catalog.weights_records",
    "ModelRecord": "catalog.records",
    "PretrainedCfg": "factory.description",
    "WeightsRecord": "catalog.weights_records",
    "get_record": "catalog.registry",
    "list_families": "catalog.registry",
    "list_models": "catalog.registry",
    "register_in_timm": "factory.timm_registry",
    "register_weights": "catalog.registry",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, original = _HOME[name].partition(":")
    module = importlib.import_module(f".{home}", __name__)
    value = module if home == name else getattr(module, original or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
