"""Where heads look from one patch: attention maps of a query, layer by layer.

d'Ascoli et al., *ConViT*, arXiv:2103.10697, figure 7: the central patch, a panel for each head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import AnalysisError
from ..evaluation.checks import check_number, check_pair
from ._attention_layers import Layout, visit_attention, without_class_tokens
from ._figure import bare, new_figure, save
from ._results import Result

DEFINITION = (
    "attention of the patch at the given place of each layer's grid, without dropout, class tokens "
    "left out and rows renormalised; layers with windows show the window's keys around the query's "
    "place in the window, layers with a neighbourhood the offsets around the query."
)


@dataclass(frozen=True)
class QueryAttention:
    """One layer.

    Args:
        query, grid: place of the query and size of the grid, (row, column), of the layer, padded
            to whole windows where it has them.
        whole: whether the maps show the whole grid, not the window or neighbourhood of the query.
        maps: attention per head, rows x columns.
    """

    name: str
    query: tuple[int, int]
    grid: tuple[int, int]
    whole: bool
    maps: tuple[Any, ...]


@dataclass(frozen=True)
class AttentionResult(Result):
    """Maps of all layers for one image, which is kept for the picture (RGB, 0 to 255)."""

    image: Any
    layers: tuple[QueryAttention, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": self.model,
                "layer": layer.name,
                "head": head,
                "query_row": layer.query[0],
                "query_column": layer.query[1],
                "largest": max(max(row) for row in values),
            }
            for layer in self.layers
            for head, values in enumerate(layer.maps)
        ]

    def plot(self, path: str | Path) -> None:

        plot_attention([self], path)


def query_attention(
    model: nn.Module,
    x: Tensor,
    image: Any,
    query: tuple[float, float] = (0.5, 0.5),
    name: str = "model",
) -> AttentionResult:
    """Attention of one patch in every layer.

    Args:
        x: one image as the model takes it, (1, C, H, W); image: the same for the picture.
        query: where to ask from, as (height, width) shares of the image in [0, 1).
    Raises: AnalysisError for a place outside, more than one image, or a model without attention;
        ConfigError for a query that is no pair of numbers.
    """
    shares = [check_number("query", q) for q in check_pair("query", query, "height, width")]
    if len(x) != 1 or not all(0 <= share < 1 for share in shares):
        raise AnalysisError(
            "query_attention takes one image and a query of two shares in [0, 1); got "
            f"{len(x)} images and {query}"
        )
    layers: list[QueryAttention] = []

    def visit(layer: str, weights: Tensor, layout: Layout) -> None:
        weights = without_class_tokens(weights, layout.prefix)  # (windows, nh, Q, K)
        grid = (layout.tiles[0] * layout.grid[0], layout.tiles[1] * layout.grid[1])
        place = (int(query[0] * grid[0]), int(query[1] * grid[1]))
        window, inside = _window_of(place, grid, layout)
        rows = weights[window][:, inside]
        whole = rows.shape[-1] == grid[0] * grid[1] and layout.kind != "neighbours"
        side = math.isqrt(rows.shape[-1])
        shape = grid if whole else (side, rows.shape[-1] // side)
        maps = tuple(rows.reshape(-1, *shape).cpu().tolist())
        layers.append(QueryAttention(layer, place, grid, whole, maps))

    visit_attention(model, [x], visit)
    return AttentionResult(name, DEFINITION, image, tuple(layers))


def _window_of(place: tuple[int, int], grid: tuple[int, int], layout: Layout) -> tuple[int, int]:
    """Numbers of the window that holds a place of the map, and of the place in that window."""
    row, column = ((place[axis] - layout.shift) % grid[axis] for axis in (0, 1))
    height, width = layout.grid
    window = (row // height) * layout.tiles[1] + column // width
    return window, (row % height) * width + column % width


def plot_attention(results: Sequence[AttentionResult], path: str | Path) -> None:
    """Attention of the query patch, a row for each layer and a column for each head."""
    heads = max(len(layer.maps) for result in results for layer in result.layers)
    rows = sum(len(result.layers) for result in results)
    figure = new_figure(1.25 * (heads + 1) + 0.8, 1.4 * rows + 0.5)
    cells = figure.subplots(rows, heads + 1, squeeze=False)
    layers = [(result, layer) for result in results for layer in result.layers]
    for row, (result, layer) in enumerate(layers):
        image = cells[row, 0]
        image.imshow(result.image, interpolation="nearest")
        height, width = len(result.image), len(result.image[0])
        image.scatter(
            [(layer.query[1] + 0.5) * width / layer.grid[1] - 0.5],
            [(layer.query[0] + 0.5) * height / layer.grid[0] - 0.5],
            marker="s", s=22, fc="none", ec="#D55E00", lw=1.5,
        )  # fmt: skip
        image.set_ylabel(f"{result.model}\n{layer.name}", fontsize=5.5)
        for head in range(heads):
            cell = cells[row, head + 1]
            cell.set_visible(head < len(layer.maps))
            if head < len(layer.maps):
                cell.imshow(layer.maps[head], cmap="viridis", vmin=0)
                if layer.whole:
                    cell.scatter(
                        [layer.query[1]], [layer.query[0]], marker="s", s=14, fc="none",
                        ec="white", lw=1,
                    )  # fmt: skip
            if row == 0:
                cell.set_title(f"head {head}", fontsize=8)
        for cell in cells[row]:
            bare(cell)
    cells[0, 0].set_title("query", fontsize=8)
    save(figure, path)
