"""The outline of a model: its steps from image to logits, equal neighbours counted together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..blocks import to_blocks
from ._hooks import unchanged
from .units import kind_of


@dataclass(frozen=True)
class OutlineStep:
    """One step, or several equal ones in a row.

    Args:
        names: of the modules.
        parts: what a step is made of, without norms and shortcuts, e.g. ("ConvAttention2d",
            "FeedForward").
        kind: one of `units.KINDS`.
        shape: of what leaves the last of them, for one image and without the batch: (C, h, w),
            (N, C) or (C,).
        params: parameters of all of them.
    """

    names: tuple[str, ...]
    parts: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    params: int


def outline(model: nn.Module, x: Tensor) -> tuple[OutlineStep, ...]:
    """Steps of a model of the zoo.

    Args: x: one image as the model takes it, (1, C, H, W); its values do not matter.
    Raises: ConfigError for another kind of model.
    """
    with unchanged(model), torch.inference_mode():
        steps = list(_steps(model, x))
    found = []
    for _, group in itertools.groupby(steps, lambda step: (step.parts, step.kind, step.shape)):
        same = list(group)
        names = tuple(name for step in same for name in step.names)
        params = sum(step.params for step in same)
        found.append(OutlineStep(names, same[-1].parts, same[-1].kind, same[-1].shape, params))
    return tuple(found)


def _steps(model: nn.Module, x: Tensor) -> Iterator[OutlineStep]:
    beside = {name: p.numel() for name, p in model.named_parameters(recurse=False)}
    for number, (name, block) in enumerate(to_blocks(model)):
        x = block(x)
        module = getattr(block, "module", block)
        params = sum(p.numel() for p in module.parameters())
        parts = _parts(module) or (name,)
        if name in beside:  # a parameter that a step adds, e.g. a class token
            params += beside[name]
        elif number == 0:
            added = {key: size for key, size in beside.items() if key not in _names(model)}
            parts, params = (*parts, *added), params + sum(added.values())
        yield OutlineStep((name,), parts, kind_of(module), tuple(x.shape[1:]), params)


def _names(model: nn.Module) -> list[str]:
    return to_blocks(model).names


def _parts(module: nn.Module) -> tuple[str, ...]:
    """What a module is made of, by class: the block's own branches, or its layers."""
    if not list(module.children()):
        return (type(module).__name__,) if _has_weights(module) else ()
    inside = [_inner(child) for key, child in module.named_children() if key != "shortcut"]
    return tuple(_layer(part) for part in inside if _has_weights(part) and not _is_norm(part))


def _inner(module: nn.Module) -> nn.Module:
    """The first layer with weights inside plain containers; a norm only where there is no other."""
    while type(module) in (nn.Sequential, nn.ModuleList):
        weighted = [child for child in module.children() if _has_weights(child)]
        if not weighted:
            break
        module = next((child for child in weighted if not _is_norm(child)), weighted[0])
    return module


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__


def _layer(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        return f"Conv2d {module.kernel_size[0]} x {module.kernel_size[1]}"
    return type(module).__name__


def shape_text(shape: tuple[int, ...]) -> str:
    """``(96, 8, 8) -> "96 x 8 x 8"``, ``(65, 96) -> "65 tokens x 96"``."""
    if len(shape) == 2:
        return f"{shape[0]} tokens x {shape[1]}"
    return " x ".join(str(side) for side in shape) or str(math.prod(shape))
