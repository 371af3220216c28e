"""Positions on a patch grid: grids of any image size, and resampling of learned embeddings."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .exporting import ceil_div, is_symbolic


def to_pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """``14 -> (14, 14)``; a pair (height, width) passes through. Raises: ValueError."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, int) and v > 0 for v in pair):
        raise ValueError(
            f"expected a positive int or a pair (height, width) of them; got {value!r}"
        )
    return pair


def patch_grid(size: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    """Patches per (column, row) of an image padded to whole patches: ``ceil(size / patch)``."""
    return ceil_div(size[0], patch[0]), ceil_div(size[1], patch[1])


def pad_to_multiple(x: Tensor, multiple: tuple[int, int]) -> Tensor:
    """Zero-pad a map at the bottom and the right so that both sides are multiples.

    Shape: (B, C, H, W) -> (B, C, ceil(H/mh)*mh, ceil(W/mw)*mw); the input itself if it fits
        already.
    """
    sides = x.shape[-2:]
    bottom, right = (ceil_div(side, m) * m - side for side, m in zip(sides, multiple, strict=True))
    return F.pad(x, (0, right, 0, bottom)) if is_symbolic(*sides) or bottom or right else x


def resample_position_embedding(
    pos_embed: Tensor, old: tuple[int, int], new: tuple[int, int]
) -> Tensor:
    """Bicubic resampling of a learned position embedding to another grid (ViT, arXiv:2010.11929,
    3.2).

    Half precision is resampled in float32. The embedding itself is returned if the grids agree.
    Shape: (1, old_h * old_w, C) -> (1, new_h * new_w, C), row-major.
    """
    if not is_symbolic(*new) and old == new:
        return pos_embed
    grid = pos_embed.reshape(1, *old, -1).permute(0, 3, 1, 2)  # (1, C, Gh, Gw)
    if grid.dtype.itemsize < 4:
        grid = grid.float()
    grid = F.interpolate(grid, size=new, mode="bicubic", align_corners=False)
    return grid.flatten(2).transpose(1, 2).to(pos_embed.dtype)  # (1, N, C)
