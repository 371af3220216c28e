"""Feature maps from what modules pass on: tokens on their grid, channels first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import AnalysisError
from ._hooks import check_finite, first_tensor


def to_map(value: Any, image: Sequence[int], name: str, block: nn.Module) -> Tensor:
    """A feature as a map (B, C, h, w): tokens on their grid, without class tokens.

    Args:
        image: (height, width) of the model's input in pixels.
        name: of the unit, for errors.
        block: whose layers tell where the channels are.
    Raises: AnalysisError for a feature without positions, or with values that are not finite.
    """
    x = check_finite(first_tensor(value, name), name)
    if x.ndim == 4:
        return x.permute(0, 3, 1, 2) if _channels_last(x, image, block) else x
    if x.ndim != 3:
        raise AnalysisError(
            f"{name} passes on shape {tuple(x.shape)}, which has no spatial map; choose "
            "modules that return (B, C, H, W) or tokens (B, N, C)",
            code="no_map",
        )
    prefix, grid = token_grid(x.shape[1], image)
    return x[:, prefix:].transpose(1, 2).unflatten(2, grid)


def _channels_last(x: Tensor, image: Sequence[int], block: nn.Module) -> bool:
    """Whether a map is (B, H, W, C), as Swin's: the sides of the image tell, or else LayerNorms and
    linear layers.
    """
    like_first, like_last = _is_like(x.shape[2:], image), _is_like(x.shape[1:3], image)
    if like_first != like_last:
        return like_last
    last: set[int] = set()
    first: set[int] = set()
    for part in block.modules():
        if isinstance(part, nn.LayerNorm):
            last.add(part.normalized_shape[-1])
        elif isinstance(part, nn.Linear):
            last |= {part.in_features, part.out_features}
        elif isinstance(part, nn.Conv2d):
            first |= {part.in_channels, part.out_channels}
    return x.shape[3] in last and x.shape[1] not in last | first


def token_grid(tokens: int, image: Sequence[int]) -> tuple[int, tuple[int, int]]:
    """Number of class tokens, and (rows, columns) of the patches, from the number of tokens.

    The grid is that of square patches on the image, rounded up; as few class tokens as possible.
    Where none fits, patches may overlap and leave the borders out, as PiT's do.
    Raises: AnalysisError if no patch size fits.
    Example: ``token_grid(65, (32, 32)) -> (1, (8, 8))``
    """
    height, width = image
    strides = range(1, max(height, width) + 1)
    covering = {(-(-height // p), -(-width // p)) for p in strides}
    overlapping = {(height // p - 1, width // p - 1) for p in strides}
    for grids, prefix in itertools.product((covering, overlapping), range(min(tokens, 6))):
        fits = [grid for grid in grids if grid[0] * grid[1] == tokens - prefix and grid[0] > 0]
        if fits:
            return prefix, fits[0]
    raise AnalysisError(
        f"{tokens} tokens are no grid of square patches on an image of {height} x {width} pixels, "
        "with up to 5 class tokens",
        code="no_map",
    )


def map_size(shape: Sequence[int], image: Sequence[int]) -> int:
    """Positions of a feature of that shape, for two images; 0 if it is no map, or a class token."""
    if len(shape) not in (3, 4) or shape[0] != 2:
        return 0
    if len(shape) == 4:  # the channels are first or last
        sides = [pair for pair in (shape[2:], shape[1:3]) if _is_like(pair, image)]
        return min((pair[0] * pair[1] for pair in sides), default=0)
    try:
        _, grid = token_grid(shape[1], image)
    except AnalysisError:
        return 0
    return grid[0] * grid[1] if shape[1] > 1 else 0


def _is_like(sides: Sequence[int], image: Sequence[int]) -> bool:
    """Whether the sides are those of the image at some stride, but for borders."""
    return any(
        all(
            abs(side - whole / stride) <= max(2, 0.12 * side)
            for side, whole in zip(sides, image, strict=True)
        )
        for stride in range(1, max(image) + 1)
    )
