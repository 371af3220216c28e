"""Attention inside windows: Swin's shifted windows and AlterNet's local attention."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from .attention import Attention1d, Attention2d, flatten_windows, unflatten_windows
from .exporting import ceil_div, crop, is_symbolic, roll
from .positions import pad_to_multiple
from .residual import DropPath


def to_windows(x: Tensor, window: int) -> Tensor:
    """Cut a map into windows, image by image, row by row.

    (B, C, H, W) -> (B * n1 * n2, w * w, C).
    """
    return rearrange(x, "b c (n1 h) (n2 w) -> (b n1 n2) (h w) c", h=window, w=window)


def from_windows(x: Tensor, window: int, grid: tuple[int, int]) -> Tensor:
    """The inverse. (B * n1 * n2, w * w, C) -> (B, C, n1 * w, n2 * w), grid = (n1, n2)."""
    pattern = "(b n1 n2) (h w) c -> b c (n1 h) (n2 w)"
    return rearrange(x, pattern, n1=grid[0], n2=grid[1], h=window, w=window)


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
        return crop(roll(out, -self.shift) if self.shift else out, size)

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
        grid = (ceil_div(height, w), ceil_div(width, w))
        x = pad_to_multiple(x, (w, w))
        x = roll(x, self.shift) if self.shift else x
        blocked = self._blocked(grid, (height, width), bias.device)
        if blocked is None:
            return to_windows(x, w), bias[None, None], grid
        return to_windows(x, w), bias.masked_fill(blocked[:, None], float("-inf")), grid

    def _blocked(
        self, grid: tuple[int, int], size: tuple[int, int], device: torch.device
    ) -> Tensor | None:
        """Which keys a query must not see, per window. (n1 * n2, w * w, w * w) bool, or None.

        Comparisons of positions only, so that one graph holds the mask of every size.
        """
        w, d = self.window_size, self.shift
        padded = is_symbolic(*size) or (grid[0] * w, grid[1] * w) != size
        if not d and not padded:
            return None
        rows, columns = (torch.arange(n, device=device)[:, None] for n in grid)
        token = torch.arange(w, device=device)
        y, x = rows * w + token + d, columns * w + token + d  # in the map before the roll
        below = (y >= grid[0] * w)[:, None, :, None]  # came round from the top
        at_right = self._at_the_right(rows * grid[1] + columns[:, 0], grid)  # (n1, n2)
        beside = at_right[:, :, None, None] & (token >= w - d)
        blocked = _differs(below, beside) | _differs(beside, below)
        if padded:
            inside = [
                (place < side) | ((place >= n * w) & (place < side + n * w))
                for place, n, side in zip((y, x), grid, size, strict=True)
            ]
            real = inside[0][:, None, :, None] & inside[1][None, :, None, :]  # (n1, n2, w, w)
            blocked |= ~real.flatten(0, 1).flatten(1)[:, None, :]
            blocked &= ~blocked.all(-1, keepdim=True)  # queries of padding alone, cropped later
        return blocked

    def _at_the_right(self, window: Tensor, grid: tuple[int, int]) -> Tensor:
        """Whether a window, by number, is one that the roll closes to a ring on the right."""
        last = grid[0] * grid[1] - 1
        if self.exact_mask:
            return torch.arange(grid[1], device=window.device).expand(window.shape) == grid[1] - 1
        start = last - grid[0]  # upstream's slice [-n1 - 1 :: n1] of all windows
        first = (window == start) | ((window == 0) & (window > start))
        return first | ((window == last) & (window >= grid[0]))


def _differs(mark: Tensor, other: Tensor) -> Tensor:
    """Whether query and key differ in a mark of tokens that broadcasts with another.

    Shape: (n1, n2, w, w) -> (n1 * n2, w * w, w * w).
    """
    mark = torch.broadcast_tensors(mark, other)[0].flatten(0, 1).flatten(1)
    return mark[:, :, None] ^ mark[:, None, :]


class LocalAttention(nn.Module):
    """`Attention2d` inside non-overlapping w x w windows, with a bias per relative position.

    The bias of query (y, x) and key (y', x') is T[y' - y + w - 1, x' - x + w - 1], one learned
    table T for all heads, as upstream. A map that the window does not divide is zero-padded below
    and on the right; padded keys get logit -inf, so that padding neither gives nor takes attention.

    Args:
        dim_in, dim_out, num_heads, head_dim, dropout: as `Attention2d`.
        window_size: window side w; T is (2w - 1, 2w - 1) whatever the map.
    Shape: (B, dim_in, H, W) -> (B, dim_out, H, W), any H and W.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int | None = None,
        window_size: int = 7,
        num_heads: int = 8,
        head_dim: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if window_size < 1:
            raise ValueError(f"window_size must be positive; got {window_size}")
        self.window_size = window_size
        side = 2 * window_size - 1
        self.attn = Attention2d(dim_in, dim_out, num_heads, head_dim, dropout=dropout)
        self.pos_embedding = nn.Parameter(nn.init.normal_(torch.empty(side, side), std=0.02))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask` (w * w, w * w) is added to the logits of all windows and heads."""
        height, width = x.shape[2], x.shape[3]
        q, k, v = self._windows(x)
        out = self.attn.attend(q, k, v, self._bias(x, mask))
        w = self.window_size
        padded = ceil_div(height, w) * w, ceil_div(width, w) * w
        out = unflatten_windows(out, self.attn.num_heads, padded, w)
        return self.attn.to_out(crop(out, (height, width)))

    def attention_weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention in every window, image by image and row by row; rows sum to 1.

        (B, C, H, W) -> (B * windows, nh, w * w, w * w).
        """
        q, k, _ = self._windows(x)
        weights = self.attn.weigh(q, k, self._bias(x, mask))  # (B, windows * nh, w * w, w * w)
        return weights.reshape(-1, self.attn.num_heads, *weights.shape[2:])

    def relative_bias(self) -> Tensor:
        """The table spread over query and key of one window: (w * w, w * w)."""
        w = self.window_size
        bias = self.pos_embedding.unfold(0, w, 1).unfold(
            1, w, 1
        )  # [i, j, y', x'] = T[i + y', j + x']
        return bias.flip(0, 1).reshape(w * w, w * w)  # i = w - 1 - y, j = w - 1 - x

    def _windows(self, x: Tensor) -> list[Tensor]:
        x = pad_to_multiple(x, (self.window_size, self.window_size))
        heads, window = self.attn.num_heads, self.window_size
        return [flatten_windows(t, heads, window) for t in self.attn.project(x)]

    def _bias(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """All masks together: (w * w, w * w), or (windows * nh, w * w, w * w) if x is padded."""
        bias = self.relative_bias()
        bias = bias if mask is None else bias + mask
        real = x.new_ones(1, 1, x.shape[2], x.shape[3])
        padded = pad_to_multiple(real, (self.window_size, self.window_size))
        if padded is real:  # never for symbolic sizes
            return bias
        real = flatten_windows(padded, 1, self.window_size)  # (1, windows, w * w, 1)
        bias = bias.masked_fill(real.transpose(2, 3) == 0, float("-inf"))
        return bias.repeat_interleave(self.attn.num_heads, dim=1).squeeze(0)


class AttentionBlock(nn.Module):
    """A residual block of `LocalAttention` behind a 1x1 convolution that reduces the width.

    Pre-activation (block B of the paper, the default): out = skip + attention(BN(conv(a))) with
    a = GELU(BN(x)); skip is a 1x1 convolution of a where the width changes, else x.
    Post-activation (block A, its ablation): out = skip + BN(attention(GELU(BN(conv(x))))); skip is
    BN of a 1x1 convolution of x where the width changes, else x. Nothing follows the sum.

    Args:
        in_channels: channels in.
        channels: width of the stage; the output has `expansion` times as many.
        stride: 1; attention blocks cannot reduce the map.
        expansion: 4 beside bottlenecks, 1 beside basic blocks; in_channels // expansion is what the
            attention sees.
        preact: block B or block A.
        num_heads, head_dim, window_size, dropout: of `LocalAttention`.
        drop_path: stochastic depth of the branch.
    Shape: (B, in_channels, H, W) -> (B, channels * expansion, H, W).
    Raises: ValueError for a stride other than 1.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        expansion: int = 4,
        preact: bool = True,
        num_heads: int = 8,
        head_dim: int = 64,
        window_size: int = 7,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if stride != 1:
            raise ValueError(
                f"an attention block cannot reduce the map; got stride={stride}. Let a convolution "
                "block come first in the stage"
            )
        self.preact = preact
        out_channels, width = channels * expansion, in_channels // expansion
        conv = nn.Conv2d(in_channels, width, 1, bias=False)
        self.shortcut = nn.Sequential()
        if in_channels != out_channels:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, 1, bias=False))
            if not preact:
                self.shortcut.append(nn.BatchNorm2d(out_channels))
        if preact:
            self.norm1 = nn.BatchNorm2d(in_channels)
            self.act = nn.GELU()
            self.conv = conv
            self.norm2 = nn.BatchNorm2d(width)
        else:
            self.conv = nn.Sequential(conv, nn.BatchNorm2d(width), nn.GELU())
        self.attn = LocalAttention(width, out_channels, window_size, num_heads, head_dim, dropout)
        if not preact:
            self.norm = nn.BatchNorm2d(out_channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        if self.preact:
            y = self.act(self.norm1(x))
            skip = self.shortcut(y) if len(self.shortcut) else x
            return skip + self.drop_path(self.attn(self.norm2(self.conv(y))))
        return self.shortcut(x) + self.drop_path(self.norm(self.attn(self.conv(x))))
