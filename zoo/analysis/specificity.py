"""Data specificity: does a layer's attention, or its response, depend on the image or on the place?

Park & Kim, arXiv:2202.06709, section 2.1, call the attention matrix a data-dependent kernel; a
convolution is the same everywhere and for every image. Made a number here (ours) by a two-way
decomposition of variance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AnalysisError
from ._attention_layers import UNREAD, Layout, visit_attention
from ._features import OnStep, ignore, visit_maps
from ._figure import INK, KIND_COLOURS, KIND_MARKERS, SERIES, legend_above, panels, save, tidy
from ._results import Result
from ._units import Unit

DEFINITION = (
    "X[b, q, k]: attention of query q to key k (or channel k of a feature map at position q) for "
    "image b. image_share = mean over q of Var_b X / Var_(b,q) X, query_share = mean over b of "
    "Var_q X / Var_(b,q) X, variances summed over k. image_share 0: the same for every image; "
    "query_share 0: the same at every place. The two need not add up to 1."
)


class TwoWayVariance:
    """Variances of X over its first axis, its second, and both, in one pass over the first.

    `add` takes (B, ..., Q, K); variances are population variances summed over K. Float64.
    """

    def __init__(self) -> None:
        self.count = 0
        self._squares: Tensor | float = 0.0
        self._by_query: Tensor | float = 0.0
        self._by_image: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        """Count a batch in."""
        x = x.detach().to("cpu", torch.float64)
        self.count += len(x)
        self._squares = self._squares + x.square().mean(-2).sum((0, -1))
        self._by_query = self._by_query + x.sum(0)
        self._by_image = self._by_image + x.mean(-2).square().sum((0, -1))

    def shares(self) -> tuple[Tensor, Tensor]:
        """(image share, query share), each (...,); NaN where nothing varies."""
        n = max(self.count, 1)
        mean = torch.as_tensor(self._by_query) / n  # (..., Q, K)
        squares, by_image = torch.as_tensor(self._squares) / n, torch.as_tensor(self._by_image) / n
        total = squares - mean.mean(-2).square().sum(-1)
        images = squares - mean.square().mean(-2).sum(-1)
        queries = squares - by_image
        total = total.masked_fill(total <= 1e-12 * squares.clamp(min=1e-300), float("nan"))
        return (images / total).clamp(0, 1), (queries / total).clamp(0, 1)


@dataclass(frozen=True)
class Share:
    """Shares of one layer's attention head, or of one unit's feature map (`head` is None)."""

    name: str
    kind: str
    head: int | None
    image_share: float
    query_share: float


@dataclass(frozen=True)
class SpecificityResult(Result):
    """Shares of attention matrices (none for a model without attention) and of feature maps."""

    attention: tuple[Share, ...]
    responses: tuple[Share, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": self.model,
                "of": what,
                "name": share.name,
                "kind": share.kind,
                "head": share.head,
                "image_share": share.image_share,
                "query_share": share.query_share,
            }
            for what, shares in (("attention", self.attention), ("response", self.responses))
            for share in shares
        ]

    def plot(self, path: str | Path) -> None:

        plot_specificity([self], path)


def specificity_study(
    model: nn.Module, loader: Iterable[Any], name: str = "model", on_step: OnStep = ignore
) -> SpecificityResult:
    """Image and query shares of every attention head and of every unit's map.

    Args: loader: read twice; at least two images.
    Raises: AnalysisError.
    """
    attention: dict[str, tuple[str, TwoWayVariance]] = {}

    def visit(layer: str, weights: Tensor, layout: Layout) -> None:
        attention.setdefault(layer, (layout.kind, TwoWayVariance()))[1].add(weights)

    try:
        visit_attention(model, loader, visit)
    except AnalysisError as error:
        if error.code not in UNREAD:
            raise
    responses = _responses(model, loader, on_step)
    found = []
    for layer, (kind, variance) in attention.items():
        for head, (images, queries) in enumerate(zip(*variance.shares(), strict=True)):
            found.append(Share(layer, kind, head, float(images), float(queries)))
    return SpecificityResult(name, DEFINITION, tuple(found), responses)


def _responses(model: nn.Module, loader: Iterable[Any], on_step: OnStep) -> tuple[Share, ...]:
    found: dict[Unit, TwoWayVariance] = {}

    def visit(unit: Unit, maps: Tensor) -> None:
        found.setdefault(unit, TwoWayVariance()).add(maps.flatten(2).transpose(1, 2))

    visit_maps(model, loader, visit, on_step=on_step)
    fewest = min((variance.count for variance in found.values()), default=2)
    if fewest < 2:
        raise AnalysisError(f"specificity compares images: at least two are needed; got {fewest}")
    shares = []
    for unit, variance in found.items():
        images, queries = variance.shares()
        shares.append(Share(unit.name, unit.kind, None, float(images), float(queries)))
    return tuple(shares)


def plot_specificity(results: Sequence[SpecificityResult], path: str | Path) -> None:
    """Share of variance between images against share between places: heads and feature maps."""
    figure, cells = panels(len(results), 3, 3.9, 3.6)
    for axes, result in zip(cells, results, strict=True):
        for kind, marker in (("global", "o"), ("neighbours", "*"), ("windows", "h")):
            shares = [share for share in result.attention if share.kind == kind]
            if shares:
                axes.scatter(
                    [s.query_share for s in shares], [s.image_share for s in shares], s=44,
                    marker=marker, color=SERIES[2], edgecolors=INK, linewidths=0.5,
                    label=f"attention head, keys: {kind}",
                )  # fmt: skip
        for kind in KIND_MARKERS:
            shares = [share for share in result.responses if share.kind == kind]
            if shares:
                axes.scatter(
                    [s.query_share for s in shares], [s.image_share for s in shares], s=26,
                    marker=KIND_MARKERS[kind], color=KIND_COLOURS[kind], edgecolors=INK,
                    linewidths=0.5, label=f"map after {kind}",
                )  # fmt: skip
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("share of variance between places (queries)")
        axes.set_ylabel("share of variance between images")
        axes.set_title(result.model)
        tidy(axes)
    legend_above(figure)
    save(figure, path)
