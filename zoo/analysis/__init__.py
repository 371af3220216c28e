"""Architecture-blind measurements on models and their attention: see docs/analyses.

`zoo.analysis.fourier(model, loader)` and fourteen more, called as their commands are. Each takes
an `nn.Module` (or a function from images to logits) and a loader, leaves the model as it was, and
returns a frozen result with its numbers and the definition they follow. What else belongs to a
question is in the module of that name: `from zoo.analysis.fourier import plot_fourier`.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attention import query_attention as attention
    from .buildup import build_up_study as buildup
    from .filters import layer_gains as filters
    from .fourier import fourier_analysis as fourier
    from .gates import gate_study as gates
    from .hessian import hessian_spectrum as hessian
    from .landscape import loss_landscape as landscape
    from .lesion import lesion_study as lesion
    from .noise import noise_study as noise
    from .nonlocality import nonlocality_study as nonlocality
    from .robustness import corruption_robustness as robustness
    from .similarity import similarity_study as similarity
    from .specificity import specificity_study as specificity
    from .sweep import sweep_study as sweep
    from .variance import feature_variance as variance

_HOME = {  # the command, and the module that has the function
    "fourier": "fourier_analysis",
    "variance": "feature_variance",
    "lesion": "lesion_study",
    "specificity": "specificity_study",
    "filters": "layer_gains",
    "nonlocality": "nonlocality_study",
    "gates": "gate_study",
    "attention": "query_attention",
    "similarity": "similarity_study",
    "landscape": "loss_landscape",
    "hessian": "hessian_spectrum",
    "robustness": "corruption_robustness",
    "noise": "noise_study",
    "buildup": "build_up_study",
    "sweep": "sweep_study",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{name}", __name__), _HOME[name])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Functions(ModuleType):
    """Keeps the functions: importing a submodule would put the module of that name there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Functions
