"""The look of all figures: readable in print, in grey, and by colour-blind people.

Colours are Okabe & Ito's; a series is told apart by marker and line style too.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependencyError
from ..files.local import atomic_path

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
    from ._lettering import fit_letters

    fit_letters(figure)
    _break_titles(figure)
    with atomic_path(path) as temporary:
        if Path(path).suffix == ".svg":
            figure.savefig(temporary, metadata={"Date": None})
            return
        from PIL import Image

        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=DPI, format="png")
        picture = Image.open(buffer).convert("RGB")
        picture.quantize(256, dither=Image.Dither.NONE).save(temporary, optimize=True)


def _break_titles(figure: Figure) -> None:
    """Put titles that are wider than their column of the figure on several lines."""
    # beside a colour bar axes, and the title over them, are not in the middle
    share = 0.8 if any(axes.get_label() == "<colorbar>" for axes in figure.axes) else 0.94
    for axes in figure.axes:
        spec, text = axes.get_subplotspec(), axes.get_title()
        columns = spec.get_gridspec().ncols if spec is not None else 1
        room = share * figure.bbox.width / columns
        width = axes.title.get_window_extent().width
        if text and width > room:
            longest = max(map(len, text.splitlines()))
            letters = max(8, int(longest * room / width))
            lines = (textwrap.wrap(line, letters) for line in text.splitlines())
            axes.title.set_text("\n".join(part for line in lines for part in line))


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


def kind_legend(figure: Any, kinds: Sequence[str]) -> None:
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
    legend_above(figure, handles)


def legend_above(figure: Any, handles: Sequence[Any] = (), columns: int = 4) -> None:
    """The legend of a figure, above its axes, where it hides nothing; nothing if there is none.

    Args:
        figure: or a part of one.
        handles: with labels; without any, those of all axes, each label once.
    """
    found = {handle.get_label(): handle for handle in handles}
    for axes in () if handles else figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        letters = 15 * figure.bbox.width / figure.dpi  # that fit beside each other
        longest = max(len(label) + 8 for label in found)
        columns = min(columns, len(found), max(1, int(letters // longest)))
        figure.legend(
            found.values(), found, loc="outside upper center", ncols=columns, frameon=False,
            fontsize=7.5,
        )  # fmt: skip


def whole_numbers(axis: Any) -> None:
    """Ticks at whole numbers only: epochs, heads."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def bare(axes: Any) -> None:
    """No ticks, for pictures."""
    axes.set_xticks([])
    axes.set_yticks([])


def _along_depth(axes: Any, units: Sequence[tuple[str, str, Any]], joined: Sequence[bool]) -> None:
    """Estimates at their places, with intervals, marks by kind, names below."""
    places = range(len(units))
    for i in places[1:]:
        if joined[i]:
            pair = [units[i - 1][2].mean, units[i][2].mean]
            axes.plot([i - 1, i], pair, color="#b7bcc4", lw=1.2, zorder=1)
    for i, (_, kind, estimate) in enumerate(units):
        axes.errorbar(
            [i], [estimate.mean],
            [[estimate.mean - estimate.low], [estimate.high - estimate.mean]],
            color=INK, lw=0.8, capsize=2, zorder=2,
        )  # fmt: skip
        axes.scatter(
            [i], [estimate.mean], s=34, marker=KIND_MARKERS[kind], color=KIND_COLOURS[kind],
            edgecolors=INK, linewidths=0.6, zorder=3,
        )  # fmt: skip
    _name_places(axes, [name for name, _, _ in units])
    tidy(axes)


def _name_places(axes: Any, names: Sequence[str]) -> None:
    """Names below the axis: all of them, or every n-th where they would overlap."""
    step = max(1, -(-len(names) // 26))
    axes.set_xticks(range(0, len(names), step))
    short = [_short(name) for name in names[::step]]
    axes.set_xticklabels(short, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
    axes.set_xlabel("depth →")


def _short(name: str) -> str:
    name = name.replace(" attention", " attn").replace(" convolution", " conv")
    return name.replace("transformers.", "").replace("blocks.", "").replace("network.", "")


def _with_intervals(axes: Any, x: Any, found: Sequence[Any], style: Any, label: str) -> None:
    means = [entry.percent for entry in found]
    low = [entry.percent - entry.interval_percent[0] for entry in found]
    high = [entry.interval_percent[1] - entry.percent for entry in found]
    axes.errorbar(
        x, means, [low, high], capsize=2, ecolor=INK, elinewidth=0.8, label=label, **style
    )
    axes.axhline(means[0], color=SERIES[6], lw=0.7, ls=":")
