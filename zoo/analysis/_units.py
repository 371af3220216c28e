"""The units of a model in the order they run, with their kind: what "depth" means in the analyses.

After Park & Kim, arXiv:2202.06709, figure 2a: one unit for the way in, one for every
residual block of a CNN, two for every transformer block, after the attention and after the MLP.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..errors import AnalysisError, ConfigError
from ..models._views import StepBlock, to_blocks
from ._hooks import check_finite, first_tensor

KINDS = ("attention", "convolution", "mlp", "other")
_FEED_FORWARD = ("mlp", "ff", "ffn", "channel_mixer")
_MIXERS = ("attn", "attention", "token_mixer", "mixer", "mlp_tokens")


@dataclass(frozen=True)
class Unit:
    """A place in a model whose feature map is measured.

    Args:
        name: for figures, e.g. "blocks.0 attention".
        kind: one of `KINDS`.
        module: name of the module that is watched.
        entering: watch what enters the module instead of what leaves it.
    """

    name: str
    kind: str
    module: str
    entering: bool = False


def find_units(model: nn.Module, names: Sequence[str] | None = None) -> tuple[Unit, ...]:
    """Units of a model of the zoo or of timm, in the order of definition.

    Args: names: modules to watch instead, e.g. ``["layer1.0.conv2"]``: any that return maps.
    Raises: AnalysisError for a name that does not exist, or a model without blocks.
    """
    modules = dict(model.named_modules())
    if names is not None:
        unknown = [name for name in names if name not in modules or not name]
        if unknown:
            raise AnalysisError(f"no modules {unknown}; see model.named_modules()")
        return tuple(Unit(name, kind_of(modules[name]), name) for name in names)
    found: list[Unit] = []
    for name in block_names(model):
        found += _units_of(name, modules[name])
    if not found:
        raise AnalysisError(
            f"{type(model).__name__} has no blocks that could be found; name the modules to watch"
        )
    return tuple(found)


def block_names(model: nn.Module) -> list[str]:
    """Names of the modules that make up the trunk: the way in, then the blocks; no lone norms."""
    try:
        blocks = to_blocks(model)
    except ConfigError:
        return list(_blocks_elsewhere(model))
    modules = dict(model.named_modules())
    kept = [name for name, _ in blocks if _has_parts(modules.get(name))]
    last = blocks[-1]
    return [name for name in kept if not (name == last[0] and isinstance(last[1], StepBlock))]


def _blocks_elsewhere(model: nn.Module, prefix: str = "") -> Iterable[str]:
    """timm's layouts: a stem of plain layers, containers of blocks, stages that have `blocks`."""
    for key, child in model.named_children():
        name = f"{prefix}{key}"
        if key in ("head", "fc", "classifier", "head_drop", "fc_norm", "global_pool"):
            continue
        if type(child) in (nn.Sequential, nn.ModuleList) and _holds_blocks(child):
            yield from _blocks_elsewhere(child, f"{name}.")
        elif hasattr(child, "blocks"):
            yield from _blocks_elsewhere(child.blocks, f"{name}.blocks.")
        elif _has_parts(child):
            yield name


def _has_parts(module: nn.Module | None) -> bool:
    return module is not None and any(True for _ in module.children())


def _holds_blocks(container: nn.Module) -> bool:
    return any(_has_parts(child) for child in container.children())


def _units_of(name: str, block: nn.Module) -> list[Unit]:
    halves = branches(block)
    if len(halves) == 2 and hasattr(block, "norm2"):
        return [
            Unit(f"{name} {halves[0][1]}", halves[0][1], f"{name}.norm2", entering=True),
            Unit(f"{name} {halves[1][1]}", halves[1][1], name),
        ]
    return [Unit(name, kind_of(block), name)]


def branches(block: nn.Module) -> list[tuple[str, str]]:
    """(child, kind) of the residual branches of a transformer block: mixer and feed-forward."""
    children = dict(block.named_children())
    mixer = [key for key in _MIXERS if key in children]
    forward = [key for key in _FEED_FORWARD if key in children]
    if not (mixer and forward):
        return []
    kind = kind_of(children[mixer[0]])
    return [(mixer[0], "mlp" if kind == "other" else kind), (forward[0], "mlp")]


def kind_of(module: nn.Module) -> str:
    """attention before convolution before MLP, by what the module holds."""
    inside = list(module.modules())
    if any(reads_attention(part) for part in inside):
        return "attention"
    if any(isinstance(part, nn.Conv2d) and max(part.kernel_size) > 1 for part in inside):
        return "convolution"
    dense = (nn.Linear, nn.Conv2d)
    return "mlp" if sum(isinstance(part, dense) for part in inside) > 1 else "other"


def reads_attention(module: nn.Module) -> bool:
    """Whether a module is an attention, ours or of timm."""
    return hasattr(module, "attention_weights") or type(module).__name__.endswith("Attention")


def to_map(value: Any, image: Sequence[int], unit: Unit, module: nn.Module) -> Tensor:
    """A feature as a map (B, C, h, w): tokens on their grid, without class tokens.

    Args: image: (height, width) of the model's input in pixels.
    Raises: AnalysisError for a feature without positions, or with values that are not finite.
    """
    x = check_finite(first_tensor(value, unit.name), unit.name)
    if x.ndim == 4:
        return x.permute(0, 3, 1, 2) if _channels_last(x, module) else x
    if x.ndim != 3:
        raise AnalysisError(
            f"{unit.name} passes on shape {tuple(x.shape)}, which has no spatial map; choose "
            "modules that return (B, C, H, W) or tokens (B, N, C)",
            code="no_map",
        )
    prefix, grid = token_grid(x.shape[1], image)
    return x[:, prefix:].transpose(1, 2).unflatten(2, grid)


def _channels_last(x: Tensor, module: nn.Module) -> bool:
    """timm's Swin passes (B, H, W, C): its LayerNorms tell."""
    parts = list(module.modules())
    normed = {part.normalized_shape[-1] for part in parts if isinstance(part, nn.LayerNorm)}
    convolved = {part.out_channels for part in parts if isinstance(part, nn.Conv2d)}
    return x.shape[3] in normed and x.shape[1] not in normed | convolved


def token_grid(tokens: int, image: Sequence[int]) -> tuple[int, tuple[int, int]]:
    """Number of class tokens, and (rows, columns) of the patches, from the number of tokens.

    The grid is that of square patches on the image, rounded up; as few class tokens as possible.
    Raises: AnalysisError if no patch size fits.
    Example: ``token_grid(65, (32, 32)) -> (1, (8, 8))``
    """
    height, width = image
    grids = {(-(-height // p), -(-width // p)) for p in range(1, max(height, width) + 1)}
    for prefix in range(min(tokens, 6)):
        fits = [grid for grid in grids if grid[0] * grid[1] == tokens - prefix]
        if fits:
            return prefix, fits[0]
    raise AnalysisError(
        f"{tokens} tokens are no grid of square patches on an image of {height} x {width} pixels, "
        "with up to 5 class tokens",
        code="no_map",
    )
