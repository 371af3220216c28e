"""What attention layers do on real inputs: their matrices, on true or on prescribed inputs, and
the gates and positional attention of GPSA.

Our layers have a method `attention_weights`. Those of other libraries are watched as they run
(`_weighing`), and read where each weighs all positions of its map, in the order of the image.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AnalysisError
from ..evaluation.checks import check_model
from ..layers.linear_maps import weight_and_bias
from ..layers.position_factors import factors, probabilities
from ._features import OnStep, ignore
from ._hooks import (
    calls_to,
    check_finite,
    device_of,
    first_tensor,
    outputs_to,
    read_images,
    unchanged,
)
from ._maps import to_map, token_grid
from ._places import Spots
from ._trace import trace
from ._weighing import weighing_of

_log = logging.getLogger(__name__)
UNREAD = ("no_attention", "attention_unreadable")  # codes of models without matrices to look at


@dataclass(frozen=True)
class Layout:
    """How to read the weights of a layer.

    Args:
        kind: "global" (all keys), "windows" (keys of the query's own window) or "neighbours" (keys
            at fixed offsets around the query).
        grid: (rows, columns) of the queries: of the map, or of one window.
        prefix: class tokens before the patches, among queries and keys alike.
        step: distance between neighbouring keys in positions (dilation; stride of strided keys).
        tiles: of windows: how many there are, (rows, columns), in this order in the weights.
        shift: by how much the map was rolled up and left before it was cut into windows.
    """

    kind: str
    grid: tuple[int, int]
    prefix: int = 0
    step: int = 1
    tiles: tuple[int, int] = (1, 1)
    shift: int = 0


def attention_layers(model: nn.Module, image: Tensor) -> dict[str, nn.Module]:
    """Layers that attend when the model runs on an image (1, C, H, W); of nested ones the outermost
    that says its attention itself.

    Raises: AnalysisError if there are none.
    """
    modules = dict(model.named_modules())
    found: dict[str, nn.Module] = {}
    for name, module in modules.items():
        if hasattr(module, "attention_weights") and not _is_inside(name, found):
            found[name] = module
    own = tuple(found)
    for name in trace(model, image).attending():
        around = any(_is_inside(inner, [name]) for inner in own)
        if not around and not _is_inside(name, own):
            found[name] = modules[name]
    if not found:
        raise AnalysisError(
            f"{type(model).__name__} has no attention layers that can be read; this analysis is "
            "for models with attention",
            code="no_attention",
        )
    return found


def _is_inside(name: str, outer: Iterable[str]) -> bool:
    return any(name == other or name.startswith(f"{other}.") for other in outer)


def _readable(model: nn.Module, image: Tensor) -> dict[str, nn.Module]:
    """Those of the layers whose attention can be read; the others are spoken of once.

    Raises: AnalysisError if there are none.
    """
    layers = attention_layers(model, image)
    reasons: dict[str, str] = {}
    spots = Spots(image)

    def look(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        x = first_tensor(args, name)
        try:
            _read(layers[name], name, args, kwargs, spots.images.shape)
        except AnalysisError as error:
            reasons.setdefault(name, str(error))
            return
        if not spots.are_in_order(x, name, layers[name]):
            reasons[name] = f"the tokens of {name} are not in the order of the image, row by row"

    others = {k: layer for k, layer in layers.items() if not hasattr(layer, "attention_weights")}
    if others:
        with calls_to(others, look):
            model(spots.images)
    kept = {name: layer for name, layer in layers.items() if name not in reasons}
    if not kept:
        raise AnalysisError(
            f"no attention of {type(model).__name__} can be read: {next(iter(reasons.values()))}",
            code="attention_unreadable",
        )
    if reasons:
        names = ", ".join([*reasons][:3]) + (f" and {len(reasons) - 3} more" * (len(reasons) > 3))
        _log.warning(f"left out, for they attend within windows, to channels or the like: {names}")
    return kept


def visit_attention(
    model: nn.Module,
    loader: Iterable[Any],
    visit: Callable[[str, Tensor, Layout], None],
    feed: str | None = None,
    on_step: OnStep = ignore,
) -> None:
    """Run the model over a loader and show `visit` the attention of every layer on every batch.

    Args:
        visit: gets the layer's name, its weights without dropout, (B, nh, queries, keys) or
            (B * windows, nh, queries, keys), and how to read them. Nothing is kept.
        feed: name of a module whose output is given to all layers instead of their true inputs.
    Raises: AnalysisError for a model without attention (code "no_attention"), one whose attention
        is not over its maps in the order of the image (code "attention_unreadable"), values that
        are not finite, or a `feed` that some layer cannot take.
    """
    device, dtype = device_of(model)
    modules = dict(model.named_modules())
    if feed is not None and feed not in modules:
        raise AnalysisError(
            f"no module {feed!r} to feed to the attention layers; named_modules() lists them"
        )
    shape: list[int] = []
    fed: list[Tensor] = []

    def look(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        x = check_finite(first_tensor(args, name), name)
        if feed is not None:
            args = tuple(fed[0] if value is x else value for value in args)
        weights, place = _read(layers[name], name, args, kwargs, shape)
        visit(name, check_finite(weights, name), place)

    def keep(_: str, __: tuple[Any, ...], output: Any) -> None:
        fed[:] = [first_tensor(output, str(feed)).clone()]  # what follows may overwrite it

    done = 0
    with unchanged(model), ExitStack() as stack:
        for images in read_images(loader):
            images = images.to(device, dtype, copy=True)
            shape[:] = images.shape
            if not done:
                layers = _readable(model, images[:1])
                if feed is not None:
                    stack.enter_context(outputs_to({feed: modules[feed]}, keep))
                stack.enter_context(calls_to(layers, look, layers))
            model(images)
            done += len(images)
            on_step(done)


def _read(
    layer: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], images: Sequence[int]
) -> tuple[Tensor, Layout]:
    """The attention of a layer in a call, in a model on images (B, C, H, W), and how to read it.

    Raises: AnalysisError for what is no attention between the positions of the layer's map.
    """
    x = first_tensor(args, name)
    try:
        if hasattr(layer, "attention_weights"):
            weights = _per_position(layer.attention_weights(*args, **kwargs))
            return weights, layout(layer, x, weights, images[2:])
        found = weighing_of(layer, *args, **kwargs)
    except (RuntimeError, ValueError, TypeError) as error:
        raise AnalysisError(f"the attention of {name} cannot be read: {error}") from None
    place = _layout_elsewhere(layer, x, images[2:])
    positions = place.prefix + math.prod(place.grid)
    shapes = [tuple(weights.shape) for weights in found]
    whole = len(found) == 1 and found[0].ndim == 4 and shapes[0][2:] == (positions, positions)
    if not whole or shapes[0][0] != images[0]:
        raise AnalysisError(
            f"{name} weighs by {shapes or 'no matrix of shares'}; read are matrices (images, "
            f"heads, {positions}, {positions}) over all positions, not windows, channels, pooled "
            "keys",
            code="attention_unreadable",
        )
    return found[0], place


def _layout_elsewhere(layer: nn.Module, x: Tensor, image: Sequence[int]) -> Layout:
    """How to read the weights of a layer of another library that takes tokens or a map."""
    if x.ndim == 3:
        prefix, grid = token_grid(x.shape[1], image)
        return Layout("global", grid, prefix)
    height, width = to_map(x, image, "", layer).shape[2:]
    return Layout("global", (height, width))


def _per_position(weights: Tensor) -> Tensor:
    """Attention to keys of several heads (convolutional SANs), summed for each position."""
    queries, keys = weights.shape[-2:]
    if keys <= queries or keys % queries:
        return weights
    return weights.unflatten(-1, (keys // queries, queries)).sum(-2)


def layout(module: Any, x: Tensor, weights: Tensor, image: Sequence[int]) -> Layout:
    """How to read `weights` of a layer that took `x`, in a model on images of (height, width)."""
    queries, keys = weights.shape[-2:]
    if x.ndim == 3:
        prefix, grid = token_grid(queries, image)
        return Layout("global", grid, prefix)
    grid = (x.shape[2], x.shape[3])
    if hasattr(module, "kernel_size"):
        return Layout("neighbours", grid, step=getattr(module, "dilation", 1))
    if queries == grid[0] * grid[1] and len(weights) == len(x):
        stride = getattr(module, "kv_stride", 1)
        return Layout("global", grid, step=stride)
    side = math.isqrt(keys)
    tiles = (-(-grid[0] // side), -(-grid[1] // side))
    return Layout("windows", (side, side), tiles=tiles, shift=getattr(module, "shift", 0))


def without_class_tokens(weights: Tensor, prefix: int) -> Tensor:
    """Queries and keys that are patches; rows made to sum to 1 again."""
    if not prefix:
        return weights
    weights = weights[..., prefix:, prefix:]
    return weights / weights.sum(-1, keepdim=True)


def collect_attention(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Attention weights of every layer on its true input, all kept: for a few images.

    Args:
        model: run once in eval mode without gradients; it comes back unchanged.
        x: images (B, C, H, W).
    Returns: module name -> weights, in order of execution. (B, nh, N, N) for self-attention,
        (B, nh, N, k * k) for attention over a neighbourhood, (B * windows, nh, n, n) in windows.
    """
    found: dict[str, Tensor] = {}
    visit_attention(model, [x], lambda name, weights, _: found.__setitem__(name, weights))
    return found


def gates(model: nn.Module) -> dict[str, Tensor]:
    """sigmoid(gating_param) of every GPSA layer, ours or timm's: 1 is position only, 0 content
    only. Values (nh,).
    """
    check_model(model, AnalysisError)
    return {
        name: module.gating_param.detach().sigmoid().cpu()
        for name, module in model.named_modules()
        if isinstance(getattr(module, "gating_param", None), nn.Parameter)
        and hasattr(module, "pos_proj")
    }


def position_weights(layer: Any) -> tuple[Tensor, Any]:
    """(nh, 3) and (nh,) of a GPSA layer's positional logit of (dx, dy, dx^2 + dy^2)."""
    return weight_and_bias(layer.pos_proj, 3)


def positional_attention(model: nn.Module, grid: tuple[int, int]) -> dict[str, Tensor]:
    """Positional half of every GPSA layer from the central patch. Values (nh, H, W), sum 1."""
    found = {}
    y, x = grid[0] // 2, grid[1] // 2
    with unchanged(model):
        for name, module in model.named_modules():
            if hasattr(module, "position_factors"):
                rows, columns = module.position_factors(grid)  # (nh, H, H), (nh, W, W)
            elif hasattr(module, "pos_proj"):
                rows, columns = factors(*position_weights(module), grid, (1.0, 1.0), probabilities)
            else:
                continue
            found[name] = torch.einsum("hi,hj->hij", rows[:, y], columns[:, x]).cpu()
    return found
