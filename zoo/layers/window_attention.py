"""Self-attention inside (shifted) windows of a map: Swin as how-do-vits-work simplifies it.

Liu et al., *Swin Transformer: Hierarchical Vision Transformer using Shifted Windows*, ICCV 2021,
arXiv:2103.14030. Keys and numbers follow how-do-vits-work `models/swin.py`: one table of relative
positions for all heads, no bias in the q, k, v projection. Its mask of the left-right wrap-around
covers the wrong windows on grids larger than 2 x 2 windows; `exact_mask=True` covers the right
ones. Where we differ on purpose: maps that the window does not divide are zero-padded, with the
padded keys masked.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .position import pad_to_multiple
from .token_attention import Attention1d


def to_windows(x: Tensor, window: int) -> Tensor:
    """Cut a map into windows, image by image, row by row.

    (B, C, H, W) -> (B * n1 * n2, w * w, C).
    """
    rows, columns = x.shape[2] // window, x.shape[3] // window
    x = x.reshape(-1, x.shape[1], rows, window, columns, window)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, window * window, x.shape[1])


def from_windows(x: Tensor, window: int, grid: tuple[int, int]) -> Tensor:
    """The inverse. (B * n1 * n2, w * w, C) -> (B, C, n1 * w, n2 * w), grid = (n1, n2)."""
    x = x.reshape(-1, *grid, window, window, x.shape[2])
    x = x.permute(0, 5, 1, 3, 2, 4)  # (B, C, n1, w, n2, w)
    return x.reshape(-1, x.shape[1], grid[0] * window, grid[1] * window)


def relative_bias(table: Tensor, window: int) -> Tensor:
    """A (2w-1, 2w-1) table of offsets, key minus query, spread over both: (w * w, w * w)."""
    position = torch.arange(window * window, device=table.device)
    y, x = position // window, position % window
    dy, dx = (axis[None, :] - axis[:, None] + window - 1 for axis in (y, x))
    return table.flatten()[dy * (2 * window - 1) + dx]


class WindowAttention(nn.Module):
    """`Attention1d` in every window, with a learned bias per relative position.

    Args:
        dim_in, dim_out, num_heads, head_dim, dropout: as `Attention1d`.
        window_size: window side w; the table is (2w-1, 2w-1) whatever the map.
        shifted: roll the map by -(w // 2) on both axes before and back afterwards; tokens that meet
            only through the roll are masked from each other.
        exact_mask: mask the whole last column of windows, instead of upstream's windows (the same
            for grids up to 2 x 2 windows).
    Shape: (B, dim_in, H, W) -> (B, dim_out, H, W), any H and W.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int | None = None,
        num_heads: int = 8,
        head_dim: int = 32,
        dropout: float = 0.0,
        window_size: int = 7,
        shifted: bool = False,
        exact_mask: bool = False,
    ) -> None:
        super().__init__()
        if window_size < 1:
            raise ValueError(f"window_size must be positive; got {window_size}")
        self.window_size = window_size
        self.shift = window_size // 2 if shifted else 0
        self.exact_mask = exact_mask
        side = 2 * window_size - 1
        self.pos_embedding = nn.Parameter(nn.init.normal_(torch.empty(side, side), std=0.02))
        self.attn = Attention1d(dim_in, dim_out, num_heads, head_dim, dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask` (w * w, w * w) is added to the logits of all windows and heads."""
        size = (x.shape[2], x.shape[3])
        tokens, bias, grid = self._prepare(x, mask)
        out = self.attn(tokens, bias, grid[0] * grid[1])
        out = from_windows(out, self.window_size, grid)
        out = out.roll((self.shift, self.shift), (2, 3)) if self.shift else out
        return out[:, :, : size[0], : size[1]]

    def attention_weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention in every window.

        (B, C, H, W) -> (B * n1 * n2, nh, w * w, w * w), rows sum to 1.
        """
        tokens, bias, grid = self._prepare(x, mask)
        return self.attn.attention_weights(tokens, bias, grid[0] * grid[1])

    def _prepare(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Tokens (B * n1 * n2, w * w, C), bias (1 or n1 * n2, 1, w * w, w * w), grid (n1, n2)."""
        w = self.window_size
        bias = relative_bias(self.pos_embedding, w)
        bias = bias if mask is None else bias + mask
        height, width = x.shape[2], x.shape[3]
        grid = (-(-height // w), -(-width // w))
        x = pad_to_multiple(x, (w, w))
        x = x.roll((-self.shift, -self.shift), (2, 3)) if self.shift else x
        blocked = self._blocked(grid, (height, width))
        if blocked is None:
            return to_windows(x, w), bias[None, None], grid
        bias = bias.masked_fill(blocked.to(bias.device)[:, None], float("-inf"))
        return to_windows(x, w), bias, grid

    def _blocked(self, grid: tuple[int, int], size: tuple[int, int]) -> Tensor | None:
        """Which keys a query must not see, per window. (n1 * n2, w * w, w * w) bool, or None."""
        w, d = self.window_size, self.shift
        windows = grid[0] * grid[1]
        blocked = torch.zeros(windows, w * w, w * w, dtype=torch.bool)
        if d:
            wrapped = torch.arange(w) >= w - d
            rows = wrapped.repeat_interleave(w)  # per token of a window
            columns = wrapped.repeat(w)
            blocked[windows - grid[1] :] |= rows[:, None] ^ rows[None, :]
            blocked[self._right_windows(grid)] |= columns[:, None] ^ columns[None, :]
        padded = (grid[0] * w, grid[1] * w)
        if padded != size:
            real = torch.zeros(1, 1, *padded, dtype=torch.bool)
            real[:, :, : size[0], : size[1]] = True
            real = to_windows(real.roll((-d, -d), (2, 3)), w)  # (n1 * n2, w * w, 1)
            blocked |= ~real.transpose(1, 2)
            blocked &= ~blocked.all(-1, keepdim=True)  # queries of padding alone, cropped later
        elif not d:
            return None
        return blocked

    def _right_windows(self, grid: tuple[int, int]) -> Sequence[int]:
        windows = range(grid[0] * grid[1])
        if self.exact_mask:
            return list(windows[grid[1] - 1 :: grid[1]])
        return list(windows[-grid[0] - 1 :: grid[0]])  # upstream's choice
