"""Self-attention on tokens, as how-do-vits-work has it everywhere (`models/attentions.py`).

Vaswani et al., *Attention Is All You Need*, arXiv:1706.03762, in the layout of vit-pytorch: no bias
in the q, k, v projection, and an inner width num_heads * head_dim that need not be the token width.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..errors import InputError
from .exporting import is_exporting, is_symbolic, parts_of
from .residual import truncated_normal_


class Attention1d(nn.Module):
    """softmax(q k^T / sqrt(hd) + mask) v per head, then a linear layer.

    Args:
        dim_in, dim_out: token widths in and out; `dim_out` defaults to `dim_in`.
        num_heads, head_dim: the inner width is num_heads * head_dim.
        dropout: dropout on the output.
    Shape: (B, N, dim_in) -> (B, N, dim_out).
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int | None = None,
        num_heads: int = 8,
        head_dim: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.scale = head_dim**-0.5
        inner = num_heads * head_dim
        self.to_qkv = nn.Linear(dim_in, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim_out or dim_in), nn.Dropout(dropout))

    def forward(self, x: Tensor, mask: Tensor | None = None, windows: int = 1) -> Tensor:
        """`mask` is added to the logits; it broadcasts to (B, nh, N, N).

        With `windows` the batch holds that many windows per image, image by image, and the mask
        (windows, 1, N, N) is shared by all images and heads.
        """
        tokens = x.shape[1]
        q, k, v = self._qkv(x)
        if (
            is_symbolic(windows) or windows > 1
        ):  # windows become heads: the mask then broadcasts over any batch
            heads = windows * self.num_heads
            q, k, v = (t.reshape(-1, heads, tokens, self.head_dim) for t in (q, k, v))
            if mask is not None:
                mask = mask.expand(windows, self.num_heads, tokens, tokens).flatten(0, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        out = out.reshape(-1, self.num_heads, tokens, self.head_dim)
        return self.to_out(out.transpose(1, 2).flatten(2))

    def attention_weights(self, x: Tensor, mask: Tensor | None = None, windows: int = 1) -> Tensor:
        """Attention matrices. Shape: (B, N, C) -> (B, nh, N, N), rows sum to 1."""
        q, k, _ = self._qkv(x)
        logits = q @ k.transpose(-2, -1) * self.scale
        if mask is not None and (is_symbolic(windows) or windows > 1):
            logits = logits.unflatten(0, (-1, windows)) + mask
        elif mask is not None:
            logits = logits + mask
        return logits.softmax(-1).reshape(-1, self.num_heads, x.shape[1], x.shape[1])

    def _qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.to_qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # 3 x (B, nh, N, hd)
        return q, k, v


class MultiHeadSelfAttention(nn.Module):
    """softmax(q k^T * scale) v per head, then a linear projection (Vaswani et al.,
    arXiv:1706.03762).

    Args:
        dim: token width C, divisible by `num_heads`.
        qkv_bias: bias in the q, k, v projection.
        qk_scale: factor on q k^T; None means head_dim ** -0.5.
        attn_drop, proj_drop: dropout on the attention and on the output.
    Shape: (B, N, C) -> (B, N, C).
    Raises: ValueError if dim is not divisible by num_heads.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = attn_drop
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        init_linear_(self)

    def _qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, dim = x.shape
        heads = (self.num_heads, dim // self.num_heads)
        if is_exporting():
            parts = (part.unflatten(2, heads) for part in parts_of(x, self.qkv, 3))
            q, k, v = (part.transpose(1, 2) for part in parts)
        else:
            qkv = self.qkv(x).reshape(batch, tokens, 3, *heads)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v  # (B, nh, N, hd) each

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self._qkv(x)
        drop = self.attn_drop if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=drop, scale=self.scale)
        return self.proj_drop(self.proj(out.transpose(1, 2).reshape(x.shape)))

    def attention_weights(self, x: Tensor) -> Tensor:
        """Attention matrices without dropout. Shape: (B, N, C) -> (B, nh, N, N), rows sum to 1."""
        q, k, _ = self._qkv(x)
        return (q @ k.transpose(-2, -1) * self.scale).softmax(-1)


def check_heads(dim: int, num_heads: int) -> None:
    """Raise ValueError unless `num_heads` divides `dim`."""
    if num_heads < 1 or dim % num_heads:
        raise ValueError(
            f"dim must be divisible by num_heads; got dim={dim}, num_heads={num_heads}"
        )


def init_linear_(module: nn.Module) -> None:
    """Weights of all linear layers tn(0.02), biases 0, as ConViT starts."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            truncated_normal_(child.weight)
            if child.bias is not None:
                nn.init.zeros_(child.bias)


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
            raise InputError(
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


def flatten_windows(x: Tensor, num_heads: int, window: int | None = None) -> Tensor:
    """Heads and windows of a map beside each other, window by window (None: one, the whole map).

    (B, nh * hd, H, W) -> (B, windows * nh, positions, hd). Windows join the heads, not the batch,
    so that a mask per window broadcasts over any batch.
    """
    high, wide = (window, window) if window else (x.shape[2], x.shape[3])
    pattern = "b (nh hd) (n1 h) (n2 w) -> b (n1 n2 nh) (h w) hd"
    return rearrange(x, pattern, nh=num_heads, h=high, w=wide)


def unflatten_windows(
    x: Tensor, num_heads: int, size: tuple[int, int], window: int | None = None
) -> Tensor:
    """The inverse of `flatten_windows` for a map of `size`: -> (B, nh * hd, H, W)."""
    high, wide = (window, window) if window else size
    pattern = "b (n1 n2 nh) (h w) hd -> b (nh hd) (n1 h) (n2 w)"
    rows, columns = size[0] // high, size[1] // wide
    return rearrange(x, pattern, n1=rows, n2=columns, nh=num_heads, h=high, w=wide)
