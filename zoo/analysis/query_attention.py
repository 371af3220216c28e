"""Where heads look from one patch: attention maps of a query, layer by layer.

d'Ascoli et al., *ConViT*, arXiv:2103.10697, figure 7: the central patch, a panel for each head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import AnalysisError
from ._results import Result
from .attention_maps import Layout, visit_attention, without_class_tokens

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
        from .plots.heads import plot_attention

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
    Raises: AnalysisError for a place outside, more than one image, or a model without attention.
    """
    if len(x) != 1 or not all(0 <= share < 1 for share in query):
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
