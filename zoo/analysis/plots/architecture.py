"""Figure of a model's outline: one box a step, from the image down to the logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .style import INK, KIND_COLOURS, MUTED, bare, new_figure, save

if TYPE_CHECKING:
    from ..outline import OutlineStep

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

    from ..outline import shape_text

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
