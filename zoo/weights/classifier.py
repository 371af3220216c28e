"""The classifier of a model that others wrote: found, counted, taken off."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


def classifier_name(model: nn.Module) -> str:
    """Name of the module whose outputs are the logits, or "".

    That is what `get_classifier` returns, or else the last linear layer or 1 x 1 convolution.
    """
    modules = dict(model.named_modules())
    if hasattr(model, "get_classifier"):
        head = model.get_classifier()
        return next((name for name, module in modules.items() if module is head), "")
    heads = [name for name, module in modules.items() if _is_linear(module)]
    return heads[-1] if heads else ""


def _is_linear(module: nn.Module) -> bool:
    from torch.nn import Conv2d, Linear

    return isinstance(module, Linear) or (
        isinstance(module, Conv2d) and module.kernel_size == (1, 1)
    )


def classes_of(model: nn.Module) -> int:
    """Width of the classifier; 0 where there is none."""
    name = classifier_name(model)
    head = model.get_submodule(name) if name else None
    return int(getattr(head, "out_features", 0) or getattr(head, "out_channels", 0))


def without_classifier(model: nn.Module) -> nn.Module:
    """The model with features in place of logits; changes it. Raises: ConfigError."""
    from torch import nn

    if hasattr(model, "reset_classifier"):
        model.reset_classifier(0)
        return _described(model)
    name = classifier_name(model)
    if not name or isinstance(model.get_submodule(name), nn.Conv2d):
        raise ConfigError(f"{type(model).__name__} has no linear classifier to take off")
    model.set_submodule(name, nn.Identity())
    return _described(model)


def _described(model: Any) -> nn.Module:
    model.num_classes = 0
    model.pretrained_cfg = replace(model.pretrained_cfg, num_classes=0, labels=(), sha256="")
    found: nn.Module = model
    return found
