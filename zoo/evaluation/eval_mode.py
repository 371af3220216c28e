"""Eval mode for as long as a model is asked, whatever mode its owner has it in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """All modules in eval mode within the block; afterwards each in its own mode again.

    Modules that are in eval mode already are not touched, so that many threads may ask one model
    that is. The flags are set directly: a `train` that a module has overridden is not called.
    """
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
