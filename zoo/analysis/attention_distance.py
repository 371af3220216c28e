"""How far attention looks, in patches (ConViT, arXiv:2103.10697, section 4: "nonlocality")."""

from __future__ import annotations

import torch
from torch import Tensor


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
