"""What attention layers do on real inputs: their matrices, on true or on prescribed inputs, and
the gates and positional attention of GPSA.

Layers are met by their interface: `attention_weights` (ours), `get_attention` (timm's ConViT), or
the q, k, v projection of timm's plain `Attention`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AnalysisError
from ._features import OnStep, ignore
from ._hooks import check_finite, device_of, first_tensor, outputs_to, read_batches, unchanged
from ._maps import token_grid


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


def attention_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Layers whose attention can be read, the outermost where they are nested.

    Raises: AnalysisError if there are none.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inner = any(name.startswith(f"{outer}.") for outer in found)
        if not inner and _reader(module) is not None:
            found[name] = module
    if not found:
        raise AnalysisError(
            f"{type(model).__name__} has no attention layers that can be read; this analysis is "
            "for models with attention",
            code="no_attention",
        )
    return found


def _reader(module: nn.Module) -> Callable[..., Tensor] | None:
    for method in ("attention_weights", "get_attention"):
        if hasattr(module, method):
            return getattr(module, method)
    plain = all(hasattr(module, part) for part in ("qkv", "num_heads", "scale", "proj"))
    biased = hasattr(module, "relative_position_bias_table") or hasattr(module, "rel_pos")
    return (lambda x, *_: _timm_weights(module, x)) if plain and not biased else None


def _timm_weights(module: Any, x: Tensor) -> Tensor:
    """softmax(q k^T scale) of timm's `Attention`. (B, N, C) -> (B, nh, N, N)."""
    batch, tokens, _ = x.shape
    qkv = module.qkv(x).reshape(batch, tokens, 3, module.num_heads, -1).permute(2, 0, 3, 1, 4)
    identity = nn.Identity()
    q = getattr(module, "q_norm", identity)(qkv[0])
    k = getattr(module, "k_norm", identity)(qkv[1])
    return (q @ k.transpose(-2, -1) * module.scale).softmax(-1)


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
    Raises: AnalysisError for a model without attention, values that are not finite, or a `feed`
        that some layer cannot take.
    """
    layers = attention_layers(model)
    modules = dict(model.named_modules())
    if feed is not None and feed not in modules:
        raise AnalysisError(
            f"no module {feed!r} to feed to the attention layers; named_modules() lists them"
        )
    size: list[int] = [0, 0]
    fed: list[Tensor] = []

    def look(name: str, inputs: tuple[Any, ...], output: Any) -> None:
        if name == feed:
            fed[:] = [first_tensor(output, name)]
        elif name in layers:
            x = fed[0] if feed is not None else check_finite(first_tensor(inputs, name), name)
            weights = _per_position(_weights(layers[name], name, x, inputs[1:]))
            visit(name, check_finite(weights, name), layout(layers[name], x, weights, size))

    device, dtype = device_of(model)
    watched = {**layers, **({feed: modules[feed]} if feed is not None else {})}
    done = 0
    with unchanged(model), outputs_to(watched, look):
        for images, _ in read_batches(loader):
            size[:] = images.shape[2:]
            model(images.to(device, dtype))
            done += len(images)
            on_step(done)


def _per_position(weights: Tensor) -> Tensor:
    """Attention to keys of several heads (convolutional SANs), summed for each position."""
    queries, keys = weights.shape[-2:]
    if keys <= queries or keys % queries:
        return weights
    return weights.unflatten(-1, (keys // queries, queries)).sum(-2)


def _weights(layer: nn.Module, name: str, x: Tensor, rest: Sequence[Any]) -> Tensor:
    reader = _reader(layer)
    try:
        return reader(x, *rest)  # type: ignore[misc]
    except (RuntimeError, ValueError) as error:
        raise AnalysisError(f"the attention of {name} cannot be read: {error}") from None


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
    """sigmoid(gating_param) of every GPSA layer: 1 is position only, 0 content only. Values
    (nh,).
    """
    return {
        name: module.gating_param.detach().sigmoid().cpu()
        for name, module in model.named_modules()
        if isinstance(getattr(module, "gating_param", None), nn.Parameter)
    }


def positional_attention(model: nn.Module, grid: tuple[int, int]) -> dict[str, Tensor]:
    """Positional half of every GPSA layer from the central patch. Values (nh, H, W), sum 1."""
    found = {}
    with unchanged(model):
        for name, module in model.named_modules():
            if hasattr(module, "position_factors"):
                rows, columns = module.position_factors(grid)  # (nh, H, H), (nh, W, W)
                y, x = grid[0] // 2, grid[1] // 2
                found[name] = torch.einsum("hi,hj->hij", rows[:, y], columns[:, x]).cpu()
    return found
