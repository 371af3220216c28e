"""Figure of global contexts: which tokens of an image resemble the average token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .style import bare, new_figure, save

if TYPE_CHECKING:
    from ..similarity import ContextMaps


def plot_contexts(image: Any, contexts: Sequence[ContextMaps], path: str | Path) -> None:
    """A row for each layer: the image, then a map for each group of channels.

    Args: image: uint8 (H, W, 3).
    Raises: MissingDependencyError without matplotlib, ResourceError.
    """
    groups = max(len(context.maps) for context in contexts)
    figure = new_figure(1.2 * (groups + 1) + 0.8, 1.25 * len(contexts) + 0.4)
    cells = figure.subplots(len(contexts), groups + 1, squeeze=False)
    for row, (line, context) in enumerate(zip(cells, contexts, strict=True)):
        line[0].imshow(image, interpolation="nearest")
        line[0].set_ylabel(context.module, fontsize=6)
        for group, cell in enumerate(line[1:]):
            cell.set_visible(group < len(context.maps))
            if group < len(context.maps):
                cell.imshow(context.maps[group], cmap="viridis")
            if row == 0:
                cell.set_title(f"group {group}", fontsize=8)
        for cell in line:
            bare(cell)
    figure.suptitle("similarity to the average token (standardised)", fontsize=9)
    save(figure, path)
