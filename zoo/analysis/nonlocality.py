"""How far attention looks, in patches (ConViT, arXiv:2103.10697, section 4: "nonlocality").

Where we differ from facebookresearch/convit `main.py`, which feeds the raw patch embedding to every
layer: layers get their true inputs, and class tokens are left out with rows made to sum to 1 again.
``feed="patch_embed"`` gives upstream's number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ._attention_layers import Layout, visit_attention, without_class_tokens
from ._features import OnStep, ignore
from ._figure import INK, SERIES, legend_above, panels, save, tidy
from ._results import Estimate, Moments, Result

DEFINITION = (
    "mean over queries of the sum over keys of attention times distance in patches; per head, mean "
    "over images. {feed}"
)
_TRUE = "Layers get their true inputs; class tokens are left out, rows renormalised."
_FED = "Every layer gets the output of {0}, as facebookresearch/convit main.py has it."


def grid_distances(
    grid: tuple[int, int], dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> Tensor:
    """Euclidean distances in patches between all pairs of a grid (H, W). Shape: (N, N),
    row-major.
    """
    rows = torch.arange(grid[0], dtype=dtype, device=device).repeat_interleave(grid[1])
    columns = torch.arange(grid[1], dtype=dtype, device=device).repeat(grid[0])
    return torch.hypot(columns[None] - columns[:, None], rows[None] - rows[:, None])


def nonlocality(attention: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean distance that a head attends over: (1/N) sum_ij A_ij |offset_ij|, averaged over the
    batch.

    Args:
        attention: (B, nh, N, N), rows sum to 1, patches only (drop a class token first).
        grid: (H, W) in patches, N = H * W.
    Returns: (nh,), in patches: 0 for identity attention.
    Raises: ValueError if N is not H * W.
    """
    tokens = grid[0] * grid[1]
    if attention.shape[-2:] != (tokens, tokens):
        raise ValueError(
            f"attention must be (B, nh, {tokens}, {tokens}) for a {grid[0]} x {grid[1]} grid; "
            f"got {tuple(attention.shape)}"
        )
    distances = grid_distances(grid, attention.dtype, attention.device)
    return (attention.mean(0) * distances).sum((-2, -1)) / tokens


def key_distances(layout: Layout, keys: int, like: Tensor) -> Tensor:
    """Distance of every key from every query in positions: (N, keys), or (1, keys)."""
    if layout.kind == "neighbours":
        side = math.isqrt(keys)
        offsets = (torch.arange(side) - side // 2) * layout.step
        distances = torch.hypot(*torch.meshgrid(offsets.float(), offsets.float(), indexing="ij"))
        return distances.reshape(1, -1).to(like)
    if layout.step == 1:
        return grid_distances(layout.grid, like.dtype, like.device)
    centre = (layout.step - 1) / 2  # strided keys stand in the middle of what they cover
    axes = [torch.arange(side // layout.step) * layout.step + centre for side in layout.grid]
    ky, kx = (axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij"))
    qy, qx = (
        axis.flatten()
        for axis in torch.meshgrid(*(torch.arange(s) for s in layout.grid), indexing="ij")
    )
    return torch.hypot(ky[None] - qy[:, None], kx[None] - qx[:, None]).to(like)


@dataclass(frozen=True)
class LayerDistance:
    """Nonlocality of one layer: per head, and the mean over heads; in patches of that layer."""

    name: str
    heads: tuple[Estimate, ...]
    layer: Estimate
    uniform: float


@dataclass(frozen=True)
class NonlocalityResult(Result):
    """Nonlocality of all layers; `uniform` of a layer is what equal attention to all keys gives."""

    layers: tuple[LayerDistance, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": self.model,
                "layer": layer.name,
                "head": head,
                "nonlocality": found.mean,
                "low": found.low,
                "high": found.high,
                "uniform": layer.uniform,
            }
            for layer in self.layers
            for head, found in enumerate(layer.heads)
        ]

    def plot(self, path: str | Path) -> None:

        plot_nonlocality([self], path)


def nonlocality_study(
    model: nn.Module,
    loader: Iterable[Any],
    feed: str | None = None,
    name: str = "model",
    on_step: OnStep = ignore,
) -> NonlocalityResult:
    """Nonlocality per head of every attention layer.

    Args: model, loader, feed, on_step: see `visit_attention`.
    Raises: AnalysisError.
    """
    heads: dict[str, Moments] = {}
    means: dict[str, Moments] = {}
    uniform: dict[str, float] = {}

    def visit(layer: str, weights: Tensor, layout: Layout) -> None:
        weights = without_class_tokens(weights, layout.prefix)
        distances = key_distances(layout, weights.shape[-1], weights)
        rows = (weights * distances).sum(-1).mean(-1)  # (B or B * windows, nh)
        heads.setdefault(layer, Moments()).add(rows)
        means.setdefault(layer, Moments()).add(rows.mean(-1, keepdim=True))
        uniform[layer] = float(distances.mean())

    visit_attention(model, loader, visit, feed, on_step)
    layers = tuple(
        LayerDistance(layer, tuple(found.estimates()), means[layer].estimates()[0], uniform[layer])
        for layer, found in heads.items()
    )
    text = DEFINITION.format(feed=_TRUE if feed is None else _FED.format(feed))
    return NonlocalityResult(name, text, layers)


def plot_nonlocality(results: Sequence[NonlocalityResult], path: str | Path) -> None:
    """Per model: every head (dots) and the mean over heads of each layer, in patches."""
    figure, cells = panels(len(results), 2, 4.4, 3.0)
    for number, (axes, result) in enumerate(zip(cells, results, strict=True)):
        places = range(len(result.layers))
        for i, layer in enumerate(result.layers):
            axes.plot(
                [i] * len(layer.heads), [head.mean for head in layer.heads], "o", ms=4,
                mfc="none", mec=SERIES[number % len(SERIES)], label="head" if i == 0 else None,
            )  # fmt: skip
        means = [layer.layer.mean for layer in result.layers]
        spans = [layer.layer.high - layer.layer.mean for layer in result.layers]
        axes.errorbar(
            places, means, spans, color=SERIES[number % len(SERIES)], marker="s", ms=5, lw=1.3,
            capsize=2, label="mean over heads",
        )  # fmt: skip
        uniform = [layer.uniform for layer in result.layers]
        axes.plot(places, uniform, color=INK, lw=0.9, ls=":", label="equal attention to all keys")
        axes.set_xticks(list(places))
        names = [layer.name for layer in result.layers]
        axes.set_xticklabels(names, rotation=40, ha="right", rotation_mode="anchor", fontsize=7)
        axes.set_ylabel("nonlocality (patches)")
        axes.set_ylim(0, 1.12 * max(*means, *uniform))
        axes.set_title(result.model)
        tidy(axes)
    legend_above(figure)
    save(figure, path)
