"""Models that start with weights: nothing is initialised that a file then overwrites.

The constructor runs on torch's meta device, where tensors have shapes but no values and random
numbers cost nothing, and the tensors of the file become the parameters. They are the file's copy in
memory, so they can be written to, and neither the file nor the global random generator is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .adaptation import adapt_tensors
from .weights import load_state

if TYPE_CHECKING:
    from torch import nn


def construct_loaded(
    construct: Callable[[], nn.Module],
    read: Callable[[], Mapping[str, Tensor]],
    what: str,
    *,
    adapt: bool,
) -> tuple[nn.Module, bool]:
    """A model with the tensors of a file, in training mode.

    A new classifier (`adapt`, see `load_state`) is initialised, and with it the rest of the model,
    from the global generator, as without weights.

    Args:
        construct: builds the model; what it objects to is said before anything is read.
        read: the tensors, which become the model's own.
        what: the file, for errors.
    Returns: the model, and whether all tensors went in as they are.
    Raises: WeightsMismatchError; whatever `construct` and `read` raise.
    """
    model = _without_values(construct)
    tensors = read()
    if model is None or (adapt and _needs_values(model, tensors)):
        model = construct()
        return model, load_state(model, tensors, what, adapt=adapt)
    return model, load_state(model, tensors, what, adapt=adapt, assign=True)


def _without_values(construct: Callable[[], nn.Module]) -> nn.Module | None:
    """The model on the meta device; None unless a state dict would fill all of it there."""
    if torch.get_default_device().type != "cpu":
        return None
    with torch.device("meta"), _Undrawn():
        model = construct()
    tensors = chain(model.named_parameters(), model.named_buffers())
    whole = {name for name, _ in tensors} == model.state_dict().keys()  # none tied, none left out
    return model if whole else None


class _Undrawn(TorchFunctionMode):
    """Tensors without values are not initialised: torch would import its compiler to do so."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        home = getattr(func, "__module__", "")
        if home == "torch.nn.init" or func in (Tensor.normal_, Tensor.uniform_):
            tensor = args[0] if args else given["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **given)


def _needs_values(model: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    adapted = adapt_tensors(model, model.state_dict(), dict(tensors))
    return any(value.is_meta for value in adapted.values())
