"""Models that start with weights: nothing is initialised that a file then overwrites.

The constructor runs on torch's meta device, where tensors have shapes but no values and random
numbers cost nothing, and the tensors of the file become the parameters. They are the file's copy in
memory, so they can be written to, and neither the file nor the global random generator is touched.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import WeightsMismatchError
from ..layers.embeddings import ConvEmbedding, PatchEmbedding
from ..layers.positions import resample_position_embedding
from .classifier import classifier_name
from .safetensors_file import check_finite

_log = logging.getLogger(__name__)


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
    with torch.device("meta"), Undrawn():
        model = construct()
    tensors = chain(model.named_parameters(), model.named_buffers())
    whole = {name for name, _ in tensors} == model.state_dict().keys()  # none tied, none left out
    return model if whole else None


class Undrawn(TorchFunctionMode):
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


def load_state(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    what: str,
    *,
    adapt: bool = False,
    assign: bool = False,
) -> bool:
    """Load a state dict strictly: same keys, shapes and floating-point-ness, or an error.

    Tensors of another dtype are converted, which a warning in the log says.

    Args:
        adapt: allow what `create_model` documents: a classifier of another width stays newly
            initialised, another number of input channels is summed or repeated, and position
            embeddings are resampled.
        assign: the tensors become the model's own, in the model's dtypes, instead of being copied.
    Returns: whether the tensors went in as they are, none adapted.
    Raises: WeightsMismatchError that lists what is missing, unexpected or of another shape;
        WeightsFileError (code "not_finite") for NaN or infinity.
    """
    check_finite(tensors, what)
    given = tensors
    expected = model.state_dict()
    tensors = dict(tensors)
    if adapt:
        tensors = adapt_tensors(model, expected, tensors)
    wrong = [
        f"{key} {_kind(tensors[key])} instead of {_kind(expected[key])}"
        for key in expected.keys() & tensors.keys()
        if tensors[key].shape != expected[key].shape
        or tensors[key].is_floating_point() != expected[key].is_floating_point()
    ]
    missing, unexpected = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or unexpected or wrong:
        raise WeightsMismatchError.between(what, missing, unexpected, wrong)
    _tell_casts(expected, tensors, what)
    unchanged = all(tensors[key] is given.get(key) for key in expected)
    if assign:
        tensors = {key: tensors[key].to(expected[key].dtype).contiguous() for key in expected}
    model.load_state_dict(tensors, strict=True, assign=assign)
    return unchanged


def _tell_casts(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], what: str) -> None:
    casts = Counter(
        f"{tensors[key].dtype} to {value.dtype}".replace("torch.", "")
        for key, value in expected.items()
        if tensors[key].dtype != value.dtype
    )
    for cast, count in casts.items():
        _log.warning(f"{what}: {count} tensors are converted from {cast}")


def adapt_tensors(
    model: nn.Module, expected: dict[str, Tensor], tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return tensors that fit `expected` where the documented rules allow it."""
    head = classifier_name(model) or "head"
    adapted = {}
    for key, tensor in tensors.items():
        target = expected.get(key)
        if key.rpartition(".")[0] == head and (target is None or target.shape != tensor.shape):
            continue  # another number of classes: the new classifier keeps its initialisation
        if target is not None and target.shape != tensor.shape:
            tensor = _fit(model, key, tensor, target)
        adapted[key] = tensor
    for key, value in expected.items():
        if key.rpartition(".")[0] == head:
            adapted.setdefault(key, value)
    return adapted


def _fit(model: nn.Module, key: str, tensor: Tensor, target: Tensor) -> Tensor:
    if key == _first_weight(model) and tensor.shape[0] == target.shape[0]:
        return _fit_first(model, key, tensor, target)
    owner, _, leaf = key.rpartition(".")
    if tensor.ndim == 3 and leaf in ("pos_embed", "pos_embedding"):
        positions = model.get_submodule(owner)
        extra = getattr(positions, "extra", 0)  # of a class token
        side = math.isqrt(tensor.shape[1] - extra)
        if side * side == tensor.shape[1] - extra and tensor.shape[2] == target.shape[2]:
            grid = getattr(positions, "grid", None) or _grid_of(model, target.shape[1] - extra)
            patches = resample_position_embedding(tensor[:, extra:], (side, side), grid)
            return torch.cat((tensor[:, :extra], patches), dim=1)
    return tensor


def _first_weight(model: nn.Module) -> str:
    """Key of the weight that reads the image."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            return f"{name}.weight"
    return ""


def _fit_first(model: nn.Module, key: str, tensor: Tensor, target: Tensor) -> Tensor:
    if tensor.ndim == 4 == target.ndim:
        return _fit_channels(tensor, target.shape[1])
    for name, module in model.named_modules():  # a linear layer on patches is a convolution too
        if isinstance(module, PatchEmbedding | ConvEmbedding) and key.startswith(f"{name}."):
            channels = module.kernel_of(target).shape[1]
            return module.weight_of(_fit_channels(module.kernel_of(tensor), channels))
    return tensor


def _fit_channels(weight: Tensor, channels: int) -> Tensor:
    """(out, 3, kh, kw) -> (out, channels, kh, kw): sum for one channel, else repeat and rescale."""
    if channels == 1:
        return weight.sum(1, keepdim=True)
    repeats = -(-channels // weight.shape[1])
    return weight.repeat(1, repeats, 1, 1)[:, :channels] * (weight.shape[1] / channels)


def _grid_of(model: nn.Module, tokens: int) -> tuple[int, int]:
    for module in model.modules():
        grid = getattr(module, "grid", None)
        if isinstance(grid, tuple) and grid[0] * grid[1] == tokens:
            return grid
    return math.isqrt(tokens), math.isqrt(tokens)


def _kind(tensor: Tensor) -> str:
    """Its shape, and its dtype where that can be the fault."""
    return f"{tuple(tensor.shape)}" + ("" if tensor.is_floating_point() else f" {tensor.dtype}")
