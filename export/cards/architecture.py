"""Figure of a model's outline: one box a step, from the image down to the logits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.analysis._figure import INK, KIND_COLOURS, MUTED, bare, new_figure, save
from zoo.analysis._hooks import unchanged
from zoo.analysis._trace import trace
from zoo.models._views import to_blocks

_ROW, _BOX, _WIDE = 0.62, 0.44, 4.6  # inches


def plot_outline(name: str, image: str, steps: Sequence[OutlineStep], path: str | Path) -> None:
    """Boxes from top to bottom; what passes between them stands at the arrows, parameters right.

    Args:
        name: of the model, the title.
        image: shape of the input, e.g. "3 x 32 x 32".
    Raises: MissingDependencyError without matplotlib, ResourceError.
    """
    height = _ROW * (len(steps) + 1) + 0.5
    figure = new_figure(7.4, height)
    axes = figure.subplots()
    axes.set_xlim(0, 7.4)
    axes.set_ylim(height - 0.3, -0.2)
    bare(axes)
    axes.spines[:].set_visible(False)
    kinds = dict.fromkeys(step.kind for step in steps)
    axes.text(0.1, 0.05, name, fontsize=10, weight="bold", color=INK, va="center")
    axes.text(0.1, 0.33, f"image {image}", fontsize=8, color=INK, va="center")
    axes.text(7.3, 0.33, "parameters", fontsize=8, color=MUTED, va="center", ha="right")
    _legend(axes, [kind for kind in kinds if kind != "other"])
    for row, step in enumerate(steps):
        _draw_step(axes, 0.5 + _ROW * row, step)
    save(figure, path)


def _legend(axes: Any, kinds: Sequence[str]) -> None:
    from matplotlib.patches import Rectangle

    left = 7.3 - 1.15 * len(kinds)
    for number, kind in enumerate(kinds):
        x = left + 1.15 * number
        axes.add_patch(Rectangle((x, -0.03), 0.14, 0.14, fc=KIND_COLOURS[kind], ec=INK, lw=0.5))
        axes.text(x + 0.2, 0.05, kind, fontsize=8, color=INK, va="center")


def _draw_step(axes: Any, top: float, step: OutlineStep) -> None:
    from matplotlib.patches import FancyBboxPatch, Rectangle

    axes.annotate(
        "", (0.5, top + _ROW - _BOX), (0.5, top),
        arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 0.9, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip
    upper = top + _ROW - _BOX
    axes.add_patch(
        FancyBboxPatch(
            (0.1, upper), _WIDE, _BOX, boxstyle="round,pad=0,rounding_size=0.05", fc="#f6f7f9",
            ec=INK, lw=0.8,
        )
    )  # fmt: skip
    axes.add_patch(Rectangle((0.1, upper), 0.1, _BOX, fc=KIND_COLOURS[step.kind], ec=INK, lw=0.8))
    title = " + ".join(step.parts)
    axes.text(
        0.3, upper + 0.14, title, fontsize=8.5 if len(title) < 44 else 7, color=INK, va="center",
        weight="bold",
    )  # fmt: skip
    axes.text(0.3, upper + 0.32, _names(step.names), fontsize=7, color="#5b616b", va="center")
    if len(step.names) > 1:
        axes.text(
            0.1 + _WIDE - 0.1, upper + 0.22, f"x {len(step.names)}", fontsize=11, color=INK,
            va="center", ha="right",
        )  # fmt: skip
    axes.text(
        0.1 + _WIDE + 0.2, upper + 0.22, f"→ {shape_text(step.shape)}", fontsize=8, va="center"
    )
    axes.text(7.3, upper + 0.22, f"{step.params:,}", fontsize=8, va="center", ha="right")


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"


@dataclass(frozen=True)
class OutlineStep:
    """One step, or several equal ones in a row.

    Args:
        names: of the modules.
        parts: what a step is made of, without norms and shortcuts, e.g. ("ConvAttention2d",
            "FeedForward").
        kind: one of `zoo.analysis._trace.KINDS`.
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
    seen = trace(model, x)
    for number, (name, block) in enumerate(to_blocks(model)):
        x = block(x)
        module = getattr(block, "module", block)
        params = sum(p.numel() for p in module.parameters())
        parts = _parts(module) or (name,)
        if name in beside:  # a parameter that a step adds, e.g. a class token
            params += beside[name]
        elif number == 0:
            added = {
                key: size for key, size in beside.items() if key not in _parameter_names(model)
            }
            parts, params = (*parts, *added), params + sum(added.values())
        yield OutlineStep((name,), parts, seen.kind_of(name), tuple(x.shape[1:]), params)


def _parameter_names(model: nn.Module) -> list[str]:
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
