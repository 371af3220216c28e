"""Gated positional self-attention, and the plain self-attention it is compared with.

d'Ascoli et al. 2021, *ConViT: Improving Vision Transformers with Soft Convolutional Inductive
Biases*, arXiv:2103.10697. State-dict keys follow facebookresearch/convit `convit.py`. Where we
differ: the grid is an argument (upstream takes the square root of N), relative positions are built
in at least float32 from the weights' own device and never stored, and the positional softmax is
computed in its factors.

The positional logit w0*dx + w1*dy + w2*(dx^2 + dy^2) + b is a function of dx plus a function of dy,
so on a full grid its softmax is an outer product, P = Py (x) Px, with

    Px[x, x'] = softmax_x'(w0*dx + w2*dx^2)        Py[y, y'] = softmax_y'(w1*dy + w2*dy^2)

and P @ v is two small products, over columns and over rows: O(N (H + W)) instead of O(N^2). b
cancels. Both halves of the blend have rows that sum to one, so upstream's final renormalisation
changes nothing.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .drop_path import truncated_normal_


def _check_heads(dim: int, num_heads: int) -> None:
    if num_heads < 1 or dim % num_heads:
        raise ValueError(
            f"dim must be divisible by num_heads; got dim={dim}, num_heads={num_heads}"
        )


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
        _check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = attn_drop
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        _init_linear(self)

    def _qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, dim // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # 3 x (B, nh, N, hd)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self._qkv(x)
        drop = self.attn_drop if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=drop, scale=self.scale)
        return self.proj_drop(self.proj(out.transpose(1, 2).reshape(x.shape)))

    def attention_weights(self, x: Tensor) -> Tensor:
        """Attention matrices without dropout. Shape: (B, N, C) -> (B, nh, N, N), rows sum to 1."""
        q, k, _ = self._qkv(x)
        return (q @ k.transpose(-2, -1) * self.scale).softmax(-1)


class GatedPositionalSelfAttention(nn.Module):
    """Self-attention whose heads blend content with relative position (GPSA).

    attn_h = (1 - s(g_h)) * softmax(q_h k_h^T * scale) + s(g_h) * softmax(w_h . r),
    s = sigmoid, r = (dx, dy, dx^2 + dy^2) in patches, r from the query to the key.

    Args:
        dim: token width C, divisible by `num_heads`.
        qkv_bias: bias in the q, k, v projections.
        qk_scale: factor on the content term only; None means head_dim ** -0.5.
        attn_drop, proj_drop: dropout on the blended attention and on the output. With attn_drop > 0
            training uses the dense (N x N) form, since dropout acts on the blend.
        locality_strength: initial locality a: head (i, j) starts as a Gaussian-like bump of
            precision a around its own offset (section 2.2 of the paper).
        use_local_init: start v as the identity and positions as that convolution; otherwise random.
        base_grid: (height, width) in patches that the weights were trained on; for "image" scaling.
        position_scaling: "patch" keeps the reach constant in patches, "image" constant as a
            fraction of the image, when the grid differs from `base_grid`.
    Shape: (B, N, C), grid (H, W) with N = H * W in row-major order -> (B, N, C).
    Raises: ValueError if dim is not divisible by num_heads, or N is not H * W.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        locality_strength: float = 1.0,
        use_local_init: bool = True,
        base_grid: tuple[int, int] | None = None,
        position_scaling: str = "patch",
    ) -> None:
        super().__init__()
        _check_heads(dim, num_heads)
        if position_scaling not in ("patch", "image"):
            raise ValueError(
                f"position_scaling must be 'patch' or 'image'; got {position_scaling!r}"
            )
        if position_scaling == "image" and base_grid is None:
            raise ValueError(
                "position_scaling='image' needs base_grid, the (height, width) in training"
            )
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        self.locality_strength = locality_strength
        self.base_grid = base_grid
        self.position_scaling = position_scaling
        self.attn_drop = attn_drop
        self.gating_param = nn.Parameter(torch.ones(num_heads))
        self.qk = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.v = nn.Linear(dim, dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.pos_proj = nn.Linear(3, num_heads)
        self.proj_drop = nn.Dropout(proj_drop)
        _init_linear(self)
        if use_local_init:
            self.local_init_(locality_strength)

    @torch.no_grad()
    def local_init_(self, strength: float) -> None:
        """Start as a convolution: v is the identity, head i + K*j looks at offset (j - c, i - c).

        K = int(sqrt(num_heads)), c = (K - 1) / 2. Heads beyond K*K keep their random direction.
        """
        nn.init.eye_(self.v.weight)
        side = math.isqrt(self.num_heads)
        centre = (side - 1) / 2
        for i in range(side):
            for j in range(side):
                offset = (2 * (j - centre), 2 * (i - centre), -1.0)
                self.pos_proj.weight[i + side * j] = self.pos_proj.weight.new_tensor(offset)
        self.pos_proj.weight.mul_(strength)

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        grid = self._check_grid(x, grid)
        v = self._heads(self.v(x))
        if self.training and self.attn_drop > 0.0:
            weights = F.dropout(self.attention_weights(x, grid), self.attn_drop)
            out = weights @ v  # (B, nh, N, hd)
        else:
            q, k = self._qk(x)
            content = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
            gate = self._gate(v.dtype)
            out = (1 - gate) * content + gate * self._attend_by_position(v, grid)
        return self.proj_drop(self.proj(out.transpose(1, 2).reshape(x.shape)))

    def attention_weights(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """The blended attention matrices, without dropout. Shape: (B, N, C) -> (B, nh, N, N)."""
        grid = self._check_grid(x, grid)
        q, k = self._qk(x)
        content = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        rows, columns = self.position_factors(grid, x.dtype)
        position = torch.einsum("hij,hkl->hikjl", rows, columns).reshape(
            self.num_heads, x.shape[1], x.shape[1]
        )
        gate = self._gate(x.dtype)
        return (1 - gate) * content + gate * position

    def position_factors(
        self, grid: tuple[int, int], dtype: torch.dtype | None = None
    ) -> tuple[Tensor, Tensor]:
        """Row and column factors of the positional attention.

        Built in at least float32, then cast to `dtype` (default: that of the weights).
        Returns: Py (nh, H, H) and Px (nh, W, W); rows sum to 1; the joint matrix is Py (x) Px.
        """
        weight = self.pos_proj.weight
        dtype = dtype or weight.dtype
        weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
        linear_x, linear_y, quadratic = weight[:, :, None, None].unbind(1)  # each (nh, 1, 1)
        bias = self.pos_proj.bias[:, None, None].to(weight.dtype)  # cancels; backward reaches it
        factors = []
        for axis, linear in ((0, linear_y), (1, linear_x)):
            index = torch.arange(grid[axis], device=weight.device, dtype=weight.dtype)
            offset = (index[None, :] - index[:, None]) * self._unit(grid, axis)  # key - query
            factors.append((linear * offset + quadratic * offset**2 + bias).softmax(-1).to(dtype))
        return factors[0], factors[1]

    def _unit(self, grid: tuple[int, int], axis: int) -> float:
        if self.position_scaling == "patch" or self.base_grid is None:
            return 1.0
        return self.base_grid[axis] / grid[axis]

    def _gate(self, dtype: torch.dtype) -> Tensor:
        return self.gating_param.sigmoid().to(dtype).reshape(-1, 1, 1)  # (nh, 1, 1)

    def _attend_by_position(self, v: Tensor, grid: tuple[int, int]) -> Tensor:
        rows, columns = self.position_factors(grid, v.dtype)
        height, width = grid
        out = v.unflatten(2, (height, width))  # (B, nh, H, W, hd)
        out = columns.unsqueeze(1) @ out  # over x': (nh, 1, W, W) @ (B, nh, H, W, hd)
        out = rows @ out.flatten(3)  # over y': (nh, H, H) @ (B, nh, H, W * hd)
        return out.reshape(v.shape)  # (B, nh, N, hd)

    def _heads(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        return x.reshape(batch, tokens, self.num_heads, dim // self.num_heads).transpose(1, 2)

    def _qk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q, k = self.qk(x).chunk(2, dim=-1)
        return self._heads(q), self._heads(k)  # (B, nh, N, hd) each

    def _check_grid(self, x: Tensor, grid: tuple[int, int] | None) -> tuple[int, int]:
        tokens = x.shape[1]
        if grid is None:
            side = math.isqrt(tokens)
            grid = (side, side)
        if grid[0] * grid[1] != tokens:
            raise ValueError(
                f"the tokens must fill the grid: {tokens} tokens do not make {grid[0]} x "
                f"{grid[1]}; "
                "pass grid=(height, width)"
            )
        return grid


def _init_linear(module: nn.Module) -> None:
    for child in module.modules():
        if isinstance(child, nn.Linear):
            truncated_normal_(child.weight)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
