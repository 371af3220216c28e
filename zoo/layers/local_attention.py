"""Self-attention on maps: over the whole map, or inside windows; and AlterNet's attention block.

Park & Kim, *How Do Vision Transformers Work?*, ICLR 2022, arXiv:2202.06709; strided keys and values
as in CvT (Wu et al., arXiv:2103.15808), windows with relative positions as in Swin (Liu et al.,
arXiv:2103.14030), without shifts. State-dict keys and numbers follow how-do-vits-work
`models/attentions.py` and `models/alternet.py`. Where we differ on purpose: maps that the window
does not divide run (upstream fails), and attention with a stride is refused at construction.
"""

import torch
import torch.nn.functional as F
from torch import SymInt, Tensor, nn

from .drop_path import DropPath
from .position import pad_to_multiple


class Attention2d(nn.Module):
    """softmax(q k^T / sqrt(hd) + mask) v over all positions of a map, then a 1x1 convolution.

    Args:
        dim_in, dim_out: channels in and out; `dim_out` defaults to `dim_in`.
        num_heads, head_dim: the inner width is num_heads * head_dim.
        kv_stride: kernel and stride k of the key/value convolution, which leaves
            (H // k) * (W // k) keys.
        dropout: dropout on the output.
    Shape: (B, dim_in, H, W) -> (B, dim_out, H, W).
    Raises: ValueError for a kv_stride below 1, and in `forward` for a map smaller than it.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int | None = None,
        num_heads: int = 8,
        head_dim: int = 64,
        kv_stride: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if kv_stride < 1:
            raise ValueError(f"kv_stride must be positive; got {kv_stride}")
        self.num_heads = num_heads
        self.scale = head_dim**-0.5
        self.kv_stride = kv_stride
        inner = num_heads * head_dim
        self.to_q = nn.Conv2d(dim_in, inner, 1, bias=False)
        self.to_kv = nn.Conv2d(dim_in, 2 * inner, kv_stride, stride=kv_stride, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(inner, dim_out or dim_in, 1), nn.Dropout(dropout))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask` is added to the logits; it broadcasts to (B, nh, H * W, keys)."""
        q, k, v = (flatten_windows(t, self.num_heads) for t in self.project(x))
        out = self.attend(q, k, v, mask)
        return self.to_out(unflatten_windows(out, self.num_heads, (x.shape[2], x.shape[3])))

    def attention_weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention over all positions: (B, nh, H * W, keys), rows sum to 1."""
        q, k, _ = (flatten_windows(t, self.num_heads) for t in self.project(x))
        return self.weigh(q, k, mask)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values as maps (B, nh * hd, ...)."""
        if min(x.shape[2], x.shape[3]) < self.kv_stride:
            raise ValueError(
                f"kv_stride={self.kv_stride} needs a map of at least that side; "
                f"got {x.shape[2]} x {x.shape[3]}"
            )
        keys, values = self.to_kv(x).chunk(2, dim=1)
        return self.to_q(x), keys, values

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Attention of flattened maps, (B, nh, N, hd) -> the same."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)

    def weigh(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """The weights that `attend` uses."""
        logits = q @ k.transpose(-2, -1) * self.scale
        return (logits if mask is None else logits + mask).softmax(-1)


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
        padded = tuple(-(-side // self.window_size) * self.window_size for side in (height, width))
        out = unflatten_windows(out, self.attn.num_heads, padded, self.window_size)
        if any(isinstance(side, SymInt) for side in padded):  # a slice would fix the sizes
            out = F.pad(out, (0, width - padded[1], 0, height - padded[0]))
        elif padded != (height, width):
            out = out[:, :, :height, :width]
        return self.attn.to_out(out)

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


def flatten_windows(x: Tensor, num_heads: int, window: int | None = None) -> Tensor:
    """Heads and windows of a map beside each other, window by window (None: one, the whole map).

    (B, nh * hd, H, W) -> (B, windows * nh, positions, hd). Windows join the heads, not the batch,
    so that a mask per window broadcasts over any batch.
    """
    high, wide = (window, window) if window else (x.shape[2], x.shape[3])
    hd, rows, columns = x.shape[1] // num_heads, x.shape[2] // high, x.shape[3] // wide
    x = x.reshape(-1, num_heads, hd, rows, high, columns, wide)
    x = x.permute(0, 3, 5, 1, 4, 6, 2)  # (B, rows, columns, nh, h, w, hd)
    return x.reshape(-1, rows * columns * num_heads, high * wide, hd)


def unflatten_windows(
    x: Tensor, num_heads: int, size: tuple[int, int], window: int | None = None
) -> Tensor:
    """The inverse of `flatten_windows` for a map of `size`: -> (B, nh * hd, H, W)."""
    high, wide = (window, window) if window else size
    hd, rows, columns = x.shape[3], size[0] // high, size[1] // wide
    x = x.reshape(-1, rows, columns, num_heads, high, wide, hd)
    x = x.permute(0, 3, 6, 1, 4, 2, 5)  # (B, nh, hd, rows, h, columns, w)
    return x.reshape(-1, num_heads * hd, *size)


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
