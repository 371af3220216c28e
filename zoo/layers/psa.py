"""Positional self-attention: content and relative position in one softmax, without gates.

d'Ascoli et al. 2021, *ConViT*, arXiv:2103.10697, section 2, after Cordonnier, Loukas, Jaggi 2020,
*On the Relationship between Self-Attention and Convolutional Layers*, arXiv:1911.03584. The gated
form, which ConViT uses, is `gpsa.py`. State-dict keys are those of GPSA (facebookresearch/convit
`convit.py`) without the gates. Relative positions are built in at least float32 from the weights'
own device and never stored.

The positional softmax is an outer product, P = Py (x) Px (`position_factors.py`), so
softmax(content + position) = softmax(content + log Py + log Px), which no precision overflows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from . import position_factors
from .attention import check_heads, init_linear_
from .exporting import is_exporting, parts_of
from .linear_maps import weight_and_bias


def _check_scaling(position_scaling: str, base_grid: tuple[int, int] | None) -> None:
    if position_scaling not in ("patch", "image"):
        raise ValueError(f"position_scaling must be 'patch' or 'image'; got {position_scaling!r}")
    if position_scaling == "image" and base_grid is None:
        raise ValueError(
            "position_scaling='image' needs base_grid, the (height, width) in training"
        )


def kernel_offsets(num_heads: int) -> list[tuple[float, float]]:
    """(dx, dy) of the heads of a K x K kernel, K = int(sqrt(num_heads)): K * K of them, by columns.

    Head i + K*j looks at (j - c, i - c), c = (K - 1) / 2; an even K has half-integer offsets.
    """
    side = math.isqrt(num_heads)
    centre = (side - 1) / 2
    return [(j - centre, i - centre) for j in range(side) for i in range(side)]


class PositionalSelfAttention(nn.Module):
    """softmax(q k^T * scale + w . r) v per head, r = (dx, dy, dx^2 + dy^2) from query to key (PSA).

    With w = a * (2 cx, 2 cy, -1) the positional logit is -a * |r - (cx, cy)|^2 up to a constant:
    the head looks at its *centre of attention* (cx, cy) with *locality strength* a.

    As a -> infinity the content term drops out, and for integer centres the layer is exactly the
    convolution whose tap at offset (cx, cy) is proj_h @ v_h and whose border is replicated
    (`limit_convolution`). A tap is a product over the head width, so its rank is at most
    `head_dim`. Hence the theorem: K * K heads with the K * K offsets as centres express *every*
    K x K convolution if head_dim >= the rank of its taps; head_dim = C always suffices
    (Cordonnier et al., theorem 1). With the usual head_dim = C / num_heads only convolutions whose
    taps have rank at most C / num_heads are reached. Half-integer centres (even K) average the
    nearest places instead, in proportions that the content term decides.

    Args:
        dim: token width C, divisible by `num_heads` unless `head_dim` is given.
        qkv_bias: bias in the q, k, v projections.
        qk_scale: factor on the content term only; None means head_dim ** -0.5.
        attn_drop, proj_drop: dropout on the attention and on the output.
        locality_strength: initial a, one number or one per head.
        use_local_init: start v as the identity and positions at `centres`; otherwise random.
        base_grid: (height, width) in patches that the weights were trained on; for "image" scaling.
        position_scaling: "patch" keeps the reach constant in patches, "image" constant as a
            fraction of the image, when the grid differs from `base_grid`.
        head_dim: channels per head; the inner width is num_heads * head_dim.
        centres: initial (cx, cy) per head, in patches to the right and down; None means the K x K
            kernel (`kernel_offsets`), the heads beyond it keep a random direction.
    Shape: (B, N, C), grid (H, W) with N = H * W in row-major order -> (B, N, C).
    Raises: ValueError if dim is not divisible by num_heads, if there is not one centre or strength
        per head, or if N is not H * W.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        locality_strength: float | tuple[float, ...] = 1.0,
        use_local_init: bool = True,
        base_grid: tuple[int, int] | None = None,
        position_scaling: str = "patch",
        head_dim: int | None = None,
        centres: tuple[tuple[float, float], ...] | None = None,
    ) -> None:
        super().__init__()
        if head_dim is None:
            check_heads(dim, num_heads)
            head_dim = dim // num_heads
        _check_scaling(position_scaling, base_grid)
        inner = num_heads * head_dim
        self.dim, self.num_heads, self.head_dim = dim, num_heads, head_dim
        self.scale = qk_scale or head_dim**-0.5
        self.locality_strength = locality_strength
        self.base_grid = base_grid
        self.position_scaling = position_scaling
        self.attn_drop = attn_drop
        self.qk = nn.Linear(dim, 2 * inner, bias=qkv_bias)
        self.v = nn.Linear(dim, inner, bias=qkv_bias)
        self.proj = nn.Linear(inner, dim)
        self.pos_proj = nn.Linear(3, num_heads)
        self.proj_drop = nn.Dropout(proj_drop)
        self._last_factors = position_factors.LastFactors()
        init_linear_(self)
        if use_local_init:
            self.local_init_(locality_strength, centres)

    @torch.no_grad()
    def local_init_(
        self,
        strength: float | Sequence[float],
        centres: Sequence[tuple[float, float]] | None = None,
    ) -> None:
        """Start as a convolution: v is the identity, head h looks at centres[h] with its strength.

        Where the inner width is not C, row i of v is the unit vector of channel i modulo C.
        """
        for rows in nn.init.zeros_(self.v.weight).split(self.v.in_features):
            rows.fill_diagonal_(1.0)
        if centres is not None and len(centres) != self.num_heads:
            raise ValueError(
                f"centres needs one (dx, dy) per head; got {len(centres)} for {self.num_heads}"
            )
        weight = self.pos_proj.weight
        for head, (dx, dy) in enumerate(centres or kernel_offsets(self.num_heads)):
            weight[head] = weight.new_tensor((2.0 * dx, 2.0 * dy, -1.0))
        if isinstance(strength, Sequence):
            if len(strength) != self.num_heads:
                raise ValueError(
                    "locality_strength needs one number, or one per head; "
                    f"got {len(strength)} for {self.num_heads}"
                )
            weight.mul_(weight.new_tensor(strength)[:, None])
        else:
            weight.mul_(strength)

    def strengths(self) -> Tensor:
        """Present locality strength a of every head, (nh,): negative for a head that looks away."""
        return -self.position_weights()[0][:, 2]

    def centres(self) -> Tensor:
        """Present centre of attention (cx, cy) of every head in patches, (nh, 2)."""
        weight, _ = self.position_weights()
        return weight[:, :2] / (-2 * weight[:, 2:])

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        grid = self._check_grid(x, grid)
        (q, k), v = self._qk(x), self._heads(self.v(x))
        drop = self.attn_drop if self.training else 0.0
        bias = self.position_bias(grid, q.dtype).unsqueeze(0)  # (1, nh, N, N)
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=bias, dropout_p=drop, scale=self.scale
        )
        return self._project(out)

    def attention_weights(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Attention without dropout. Shape: (B, N, C) -> (B, nh, N, N), rows sum to 1."""
        grid = self._check_grid(x, grid)
        q, k = self._qk(x)
        return (q @ k.transpose(-2, -1) * self.scale + self.position_bias(grid, q.dtype)).softmax(
            -1
        )

    def position_bias(self, grid: tuple[int, int], dtype: torch.dtype | None = None) -> Tensor:
        """Logarithm of the positional attention, (nh, N, N), in `dtype` (that of the weights)."""
        units = self._unit(grid, 0), self._unit(grid, 1)
        weight, bias = self.position_weights()
        rows, columns = position_factors.factors(weight, bias, grid, units, torch.log_softmax)
        tokens = grid[0] * grid[1]
        joint = rows[:, :, None, :, None] + columns[:, None, :, None, :]  # (nh, H, W, H, W)
        return joint.reshape(-1, tokens, tokens).to(dtype or weight.dtype)

    def position_factors(
        self, grid: tuple[int, int], dtype: torch.dtype | None = None
    ) -> tuple[Tensor, Tensor]:
        """Row and column factors of the positional attention.

        Built in at least float32, then cast to `dtype` (default: that of the weights).
        Returns: Py (nh, H, H) and Px (nh, W, W); rows sum to 1; the joint matrix is Py (x) Px.
        """
        weight, bias = self.position_weights()
        dtype = dtype or weight.dtype
        units = self._unit(grid, 0), self._unit(grid, 1)

        def build() -> tuple[Tensor, Tensor]:
            rows, columns = position_factors.factors(
                weight, bias, grid, units, position_factors.probabilities
            )
            return rows.to(dtype), columns.to(dtype)

        return self._last_factors.get(weight, (grid, units, dtype, weight.dtype), build)

    @torch.no_grad()
    def limit_convolution(self) -> nn.Conv2d:
        """The convolution, on maps (B, C, H, W), that PSA becomes as its strengths grow.

        Raises: ValueError if a centre of attention is not on the integer grid.
        """
        centres = self.centres()
        offsets = centres.round()
        if not torch.allclose(centres, offsets, atol=1e-4) or (self.strengths() <= 0).any():
            raise ValueError(
                "the limit is one convolution only for integer centres and positive strengths; got "
                f"centres {centres.tolist()}, strengths {self.strengths().tolist()}"
            )
        inner, reach = self.num_heads * self.head_dim, int(offsets.abs().max())
        value, value_bias = weight_and_bias(self.v, self.dim)
        merge, bias = weight_and_bias(self.proj, inner)
        conv = nn.Conv2d(
            self.dim, self.dim, 2 * reach + 1, padding=reach, padding_mode="replicate",
            device=centres.device, dtype=centres.dtype,
        )  # fmt: skip
        nn.init.zeros_(conv.weight)
        proj, v = merge.chunk(self.num_heads, 1), value.chunk(self.num_heads, 0)
        for head, (dx, dy) in enumerate(offsets.long().tolist()):
            conv.weight[:, :, reach + dy, reach + dx] += proj[head] @ v[head]  # rank <= head_dim
        conv.bias.copy_(bias if value_bias is None else bias + merge @ value_bias)
        return conv

    def position_weights(self) -> tuple[Tensor, Tensor]:
        """(nh, 3) and (nh,) of the positional logit of (dx, dy, dx^2 + dy^2)."""
        return weight_and_bias(self.pos_proj, 3)

    def _unit(self, grid: tuple[int, int], axis: int) -> float:
        if self.position_scaling == "patch" or self.base_grid is None:
            return 1.0
        return self.base_grid[axis] / grid[axis]

    def _project(self, out: Tensor) -> Tensor:
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))  # (B, N, C)

    def _heads(self, x: Tensor) -> Tensor:
        batch, tokens, inner = x.shape
        return x.reshape(batch, tokens, self.num_heads, inner // self.num_heads).transpose(1, 2)

    def _qk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if is_exporting():
            q, k = parts_of(x, self.qk, 2)
            return self._heads(q), self._heads(k)
        qk = self.qk(x).view(x.shape[0], x.shape[1], 2, self.num_heads, self.head_dim)
        q, k = qk.permute(2, 0, 3, 1, 4).unbind(0)  # (B, nh, N, hd) each
        return q, k

    def _check_grid(self, x: Tensor, grid: tuple[int, int] | None) -> tuple[int, int]:
        tokens = x.shape[1]
        if grid is None:
            side = math.isqrt(tokens)
            grid = (side, side)
        if grid[0] * grid[1] != tokens:
            raise InputError(
                f"the tokens must fill the grid: {tokens} tokens do not make {grid[0]} x "
                f"{grid[1]}; pass grid=(height, width)"
            )
        return grid
