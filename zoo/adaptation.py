"""Fit pretrained tensors to a model that differs in classes, input channels or image size.

The rules are timm's: see `create_model`. Anything else that differs stays an error of `load_state`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .layers.position import resample_position_embedding
from .layers.token_embed import ConvEmbedding, PatchEmbedding


def adapt_tensors(
    model: nn.Module, expected: dict[str, Tensor], tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return tensors that fit `expected` where the documented rules allow it."""
    names = {id(module): name for name, module in model.named_modules()}
    classifier = model.get_classifier() if hasattr(model, "get_classifier") else None
    head = names.get(id(classifier), "head")
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
