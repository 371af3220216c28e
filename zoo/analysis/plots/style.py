"""The look of all figures: readable in print, in grey, and by colour-blind people.

Colours are Okabe & Ito's; a series is told apart by marker and line style too.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import MissingDependencyError
from ...files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, ACCENT = "#1b1f24", "#8a8f98", "#2563a8"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#444444")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
KIND_COLOURS = {
    "attention": "#0072B2",
    "convolution": "#D55E00",
    "mlp": "#999999",
    "other": "#ffffff",
}
KIND_MARKERS = {"attention": "o", "convolution": "s", "mlp": "^", "other": "D"}
DPI = 100
_SIZES = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "svg.hashsalt": "convattn",
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches. Raises: MissingDependencyError."""
    try:
        from matplotlib import rcParams
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            "pictures need matplotlib: pip install 'convattn-zoo[analysis]'"
        ) from None
    rcParams.update(_SIZES)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write a .png of 256 colours, or an .svg; the same figure gives the same bytes."""
    with atomic_path(path) as temporary:
        if Path(path).suffix == ".svg":
            figure.savefig(temporary, metadata={"Date": None})
            return
        from PIL import Image

        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=DPI, format="png")
        picture = Image.open(buffer).convert("RGB")
        picture.quantize(256, dither=Image.Dither.NONE).save(temporary, optimize=True)


def series(number: int) -> dict[str, Any]:
    """Colour, marker and line style of a series."""
    return {
        "color": SERIES[number % len(SERIES)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": LINES[number % len(LINES)],
        "markersize": 4.5,
        "linewidth": 1.3,
    }


def tidy(axes: Any, grid: bool = True) -> None:
    """Two spines and a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, width=0.6)
    if grid:
        axes.grid(True, color="#e4e6ea", linewidth=0.6)
        axes.set_axisbelow(True)


def panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Any]]:
    """A figure with `count` axes in rows of `columns`; each axes that size in inches."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = new_figure(width * columns, height * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    cells = list(grid.flat)
    for cell in cells[count:]:
        cell.set_visible(False)
    return figure, cells[:count]


def kind_legend(axes: Any, kinds: Sequence[str]) -> None:
    """What the marks of blocks mean."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [], [], linestyle="", marker=KIND_MARKERS[kind], markersize=6,
            markerfacecolor=KIND_COLOURS[kind], markeredgecolor=INK, markeredgewidth=0.6,
            label=kind,
        )
        for kind in KIND_MARKERS
        if kind in kinds
    ]  # fmt: skip
    axes.legend(handles=handles, frameon=False, loc="best")


def bare(axes: Any) -> None:
    """No ticks, for pictures."""
    axes.set_xticks([])
    axes.set_yticks([])
