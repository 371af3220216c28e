"""Do all queries look at the same? Similarity maps of global contexts, attention rows compared.

Ma et al., *A Close Look at Spatial Modeling: From Attention to Convolution*, arXiv:2212.12552,
figures 1 and 3: attention of trained ViTs is "query-irrelevant" in late layers. The numbers are
ours; the paper shows pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AnalysisError
from ._attention_layers import UNREAD, Layout, visit_attention, without_class_tokens
from ._features import OnStep, ignore
from ._figure import SERIES, bare, legend_above, new_figure, save, series, tidy
from ._hooks import check_finite, device_of, first_tensor, outputs_to, read_images, unchanged
from ._results import Estimate, Moments, Result

DEFINITION = (
    "query_similarity: mean cosine of a head's attention rows over pairs of queries (1: all "
    "queries look at the same); head_similarity: mean cosine over pairs of heads for one query; "
    "entropy: of a row, divided by that of equal attention; top_share: attention on the tenth "
    "of the keys that gets most. Class tokens left out. Rows of attention to a neighbourhood are "
    "compared offset by offset."
)
TOP = 0.1


def pairwise_cosine(rows: Tensor) -> Tensor:
    """Mean cosine over pairs of rows: (..., R, K) -> (...,); 1 for a single row."""
    count = rows.shape[-2]
    if count == 1:
        return torch.ones(rows.shape[:-2], dtype=rows.dtype, device=rows.device)
    unit = torch.nn.functional.normalize(rows, dim=-1)
    return (unit.sum(-2).square().sum(-1) - unit.square().sum((-2, -1))) / (count * (count - 1))


def row_numbers(weights: Tensor) -> Tensor:
    """The four numbers of an attention: (B, nh, Q, K) -> (B, nh, 4).

    Order: query similarity, head similarity (the same for all heads), entropy, share of the top.
    """
    keys = weights.shape[-1]
    by_query = pairwise_cosine(weights)
    by_head = pairwise_cosine(weights.transpose(1, 2)).mean(1, keepdim=True).expand_as(by_query)
    entropy = torch.special.entr(weights).sum(-1).mean(-1) / math.log(max(keys, 2))
    top = weights.topk(max(1, math.ceil(TOP * keys)), dim=-1).values.sum(-1).mean(-1)
    return torch.stack([by_query, by_head, entropy, top], dim=-1)


@dataclass(frozen=True)
class HeadNumbers:
    """One head: see `DEFINITION`; `kind` says which keys it has (`Layout`)."""

    layer: str
    head: int
    kind: str
    query_similarity: Estimate
    head_similarity: Estimate
    entropy: Estimate
    top_share: Estimate


@dataclass(frozen=True)
class QueryMaps:
    """Attention of some queries for one image, last layer first: heads x queries x rows x cols."""

    layer: str
    queries: tuple[tuple[int, int], ...]
    maps: tuple[Any, ...]


@dataclass(frozen=True)
class ContextMaps:
    """Similarity to the average token of one image: groups x rows x columns, standardised."""

    module: str
    maps: tuple[Any, ...]
    group_similarity: Estimate


@dataclass(frozen=True)
class SimilarityResult(Result):
    """Numbers of attention heads, maps of query points, and similarity maps of global contexts."""

    heads: tuple[HeadNumbers, ...]
    queries: tuple[QueryMaps, ...]
    contexts: tuple[ContextMaps, ...]

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [
            {
                "model": self.model,
                "layer": head.layer,
                "head": head.head,
                "keys": head.kind,
                "query_similarity": head.query_similarity.mean,
                "head_similarity": head.head_similarity.mean,
                "entropy": head.entropy.mean,
                "top_share": head.top_share.mean,
            }
            for head in self.heads
        ]
        rows += [
            {
                "model": self.model,
                "layer": context.module,
                "keys": "average token",
                "head_similarity": context.group_similarity.mean,
            }
            for context in self.contexts
        ]
        return rows

    def plot(self, path: str | Path) -> None:

        plot_similarity([self], path)


def similarity_study(
    model: nn.Module, loader: Iterable[Any], name: str = "model", on_step: OnStep = ignore
) -> SimilarityResult:
    """Attention rows compared, or similarity maps where a model has global contexts instead.

    Args: loader: read once for each of the two; pictures are of its first image.
    Raises: AnalysisError for a model with neither.
    """
    contexts = _contexts(model, loader, on_step)
    moments: dict[str, tuple[str, Moments]] = {}
    pictures: dict[str, QueryMaps] = {}

    def visit(layer: str, weights: Tensor, layout: Layout) -> None:
        weights = without_class_tokens(weights, layout.prefix)
        moments.setdefault(layer, (layout.kind, Moments()))[1].add(row_numbers(weights))
        if layer not in pictures:
            pictures[layer] = _query_maps(layer, weights[0], layout)

    try:
        visit_attention(model, loader, visit, on_step=on_step)
    except AnalysisError as error:
        if error.code not in UNREAD or not contexts:
            raise
    heads = []
    for layer, (kind, found) in moments.items():
        values = found.estimates()
        for head in range(len(values) // 4):
            heads.append(HeadNumbers(layer, head, kind, *values[4 * head : 4 * head + 4]))
    return SimilarityResult(name, DEFINITION, tuple(heads), tuple(pictures.values()), contexts)


def query_points(grid: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Three places to ask from: upper left, centre, lower right."""
    height, width = grid
    places = ((height // 4, width // 4), (height // 2, width // 2))
    return (*places, (height - 1 - height // 8, width - 1 - width // 8))


def _query_maps(layer: str, weights: Tensor, layout: Layout) -> QueryMaps:
    """Maps of one image (or window): weights (nh, Q, K)."""
    points = query_points(layout.grid)
    rows = torch.stack([weights[:, y * layout.grid[1] + x] for y, x in points], dim=1)
    height = math.isqrt(rows.shape[-1])
    square = height * height == rows.shape[-1]
    shape = layout.grid if layout.step == 1 and layout.kind != "neighbours" else (height, height)
    if math.prod(shape) != rows.shape[-1]:
        shape = (height, height) if square else (1, rows.shape[-1])
    return QueryMaps(layer, points, tuple(rows.unflatten(-1, shape).cpu().tolist()))


def _contexts(model: nn.Module, loader: Iterable[Any], on_step: OnStep) -> tuple[ContextMaps, ...]:
    device, dtype = device_of(model)
    modules = {
        name: module for name, module in model.named_modules() if hasattr(module, "similarity")
    }
    if not modules:
        return ()
    moments: dict[str, Moments] = {}
    pictures: dict[str, tuple[Any, ...]] = {}

    def look(name: str, inputs: tuple[Any, ...], _: Any) -> None:
        maps = modules[name].similarity(
            check_finite(first_tensor(inputs, name), name)
        )  # (B, G, H, W)
        moments.setdefault(name, Moments()).add(pairwise_cosine(maps.flatten(2)))
        pictures.setdefault(name, tuple(maps[0].cpu().tolist()))

    done = 0
    with unchanged(model), outputs_to(modules, look, modules):
        for images in read_images(loader):
            model(images.to(device, dtype, copy=True))
            done += len(images)
            on_step(done)
    return tuple(
        ContextMaps(name, pictures[name], found.estimates()[0]) for name, found in moments.items()
    )


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


def plot_similarity(results: Sequence[SimilarityResult], path: str | Path) -> None:
    """Numbers over depth, then per model pictures of its last layer."""
    attending = [result for result in results if result.heads]
    pictures = [_pictures(result) for result in results]
    tall = [2.9] * bool(attending) + [1.25 * len(rows) + 0.5 for _, rows in pictures]
    widest = max(len(row) for _, rows in pictures for _, row in rows)
    figure = new_figure(max(8.4, 1.1 * widest + 1.2), sum(tall))
    parts = figure.subfigures(len(tall), 1, squeeze=False, height_ratios=tall)[:, 0]
    if attending:
        _numbers(parts[0], attending)
    for part, (title, rows) in zip(parts[bool(attending) :], pictures, strict=True):
        _grid(part, title, rows)
    save(figure, path)


def _pictures(result: SimilarityResult) -> tuple[str, list[tuple[str, list[Any]]]]:
    """A title, and rows of maps with their labels."""
    if result.queries:
        last = result.queries[-1]
        rows = [
            (f"query {place}", [maps[number] for maps in last.maps])
            for number, place in enumerate(last.queries)
        ]
        return f"{result.model}, {last.layer}: attention, a column for each head", rows
    rows = [(context.module, list(context.maps)) for context in result.contexts[-2:]]
    return f"{result.model}: similarity to the average token, a column for each group", rows


def _numbers(figure: Any, results: Sequence[SimilarityResult]) -> None:
    names = (
        ("query_similarity", "cosine between queries"),
        ("head_similarity", "cosine between heads"),
        ("entropy", "entropy / equal attention's"),
        ("top_share", "attention on top 10 % of keys"),
    )
    cells = figure.subplots(1, len(names))
    for axes, (key, title) in zip(cells, names, strict=True):
        for number, result in enumerate(results):
            layers = list(dict.fromkeys(head.layer for head in result.heads))
            means = []
            for layer in layers:
                values = [getattr(h, key).mean for h in result.heads if h.layer == layer]
                means.append(sum(values) / len(values))
            x = [i / max(1, len(layers) - 1) for i in range(len(layers))]
            axes.plot(x, means, label=result.model, **series(number))
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("relative depth")
        axes.set_title(title, fontsize=8)
        tidy(axes)
    legend_above(figure)


def _grid(figure: Any, title: str, rows: Sequence[tuple[str, list[Any]]]) -> None:
    widest = max(len(row) for _, row in rows)
    cells = figure.subplots(len(rows), widest, squeeze=False)
    for line, (label, row) in zip(cells, rows, strict=True):
        line[0].set_ylabel("\n".join(label.rsplit(".", 2)), fontsize=6.5, color=SERIES[6])
        for cell, maps in zip(line, row, strict=False):
            cell.imshow(maps, cmap="viridis")
        for cell in line:
            bare(cell)
        for cell in line[len(row) :]:
            cell.set_visible(False)
    figure.suptitle(title, fontsize=9)
