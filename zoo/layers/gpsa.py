"""Gated positional self-attention, and the plain self-attention it is compared with.

d'Ascoli et al. 2021, *ConViT: Improving Vision Transformers with Soft Convolutional Inductive
Biases*, arXiv:2103.10697. State-dict keys follow facebookresearch/convit `convit.py`. Where we
differ: the grid is an argument (upstream takes the square root of N), and the positional softmax is
computed in its factors (`position_factors.py`), so that the position term costs O(N (H + W)). Both
halves of the blend have rows that sum to one, so upstream's final renormalisation changes nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import position_factors
from .exporting import is_exporting, is_recorded
from .linear_maps import is_plain
from .psa import PositionalSelfAttention

GATINGS = ("learned", "fixed", "none")
FREEZES = ("none", "position", "layer")
_LEAST_SCALE = 2.0**-10  # keeps the factors of an exported graph in the range of float16


class GatedPositionalSelfAttention(PositionalSelfAttention):
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
        base_grid, position_scaling: as `PositionalSelfAttention`.
        gating: "learned"; "fixed" keeps the gates at `gate_init`, untrained; "none" has no gates
            and is `PositionalSelfAttention`, one softmax over content plus position.
        gate_init: initial value of every gate g. The paper's ablation fixes it at 0, as much
            content as position.
        freeze: "none"; "position" trains neither positions nor gates; "layer" trains nothing here.
            Fixed and frozen parameters stay in the state dict, with requires_grad=False.
    Shape: (B, N, C), grid (H, W) with N = H * W in row-major order -> (B, N, C).
    Raises: ValueError if dim is not divisible by num_heads, for an unknown setting, or if N is not
        H * W.
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
        gating: str = "learned",
        gate_init: float = 1.0,
        freeze: str = "none",
    ) -> None:
        super().__init__(
            dim,
            num_heads,
            qkv_bias,
            qk_scale,
            attn_drop,
            proj_drop,
            locality_strength,
            use_local_init,
            base_grid,
            position_scaling,
        )
        _check_choice("gating", gating, GATINGS)
        _check_choice("freeze", freeze, FREEZES)
        gates = torch.full((num_heads,), float(gate_init))
        self.register_parameter("gating_param", None if gating == "none" else nn.Parameter(gates))
        self._freeze(gating, freeze)

    def _freeze(self, gating: str, freeze: str) -> None:
        if freeze == "layer":
            self.requires_grad_(False)
        if freeze == "position":
            self.pos_proj.requires_grad_(False)
        if self.gating_param is not None and (gating == "fixed" or freeze == "position"):
            self.gating_param.requires_grad_(False)

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        if self.gating_param is None:
            return super().forward(x, grid)
        grid = self._check_grid(x, grid)
        if is_exporting() and not self.training:
            return self._forward_as_graph(x, grid)
        v = self.v(x)  # (B, N, nh * hd)
        if self.training and self.attn_drop > 0.0:
            weights = F.dropout(self.attention_weights(x, grid), self.attn_drop)
            return self._project(weights @ self._heads(v))
        content = self._attend_by_content(x, v)
        rows, columns = self.position_factors(grid, v.dtype)
        position = position_factors.attend(rows, columns, v)  # (B, nh, H, W, hd)
        out = _blend(content.view(position.shape), position, self._gate(v.dtype).unsqueeze(-1))
        return self._project(out.flatten(2, 3))

    def _forward_as_graph(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """The same sum with its factors moved to where an exported graph folds them into constants.

        With c = max(1 - g, 2**-10), (1 - g) A v + g P v = (1 - g) / c A (c v) + (g / c) P (c v).
        The value projection takes c, the row factors take g / c, and (1 - g) / c is 1, so that it
        leaves the graph, unless a gate is within 2**-10 of 1.
        """
        gate, rest = self.gating_param.sigmoid(), (-self.gating_param).sigmoid()
        scale = rest.clamp(min=_LEAST_SCALE)
        v = self._scaled_values(x, scale.repeat_interleave(self.head_dim))
        content = self._attend_by_content(x, v) * (rest / scale)[:, None, None]
        rows, columns = self.position_factors(grid)
        rows = rows * (gate / scale)[:, None, None]
        position = position_factors.attend_as_graph(rows, columns, v)
        return self.proj_drop(self.proj(content.transpose(1, 2).flatten(2) + position))

    def _scaled_values(self, x: Tensor, scale: Tensor) -> Tensor:
        """`self.v(x) * scale`, the scale (nh * hd,) in the constants of a plain layer."""
        if not is_plain(self.v):
            return self.v(x) * scale
        bias = None if self.v.bias is None else self.v.bias * scale
        return F.linear(x, self.v.weight * scale[:, None], bias)

    def _attend_by_content(self, x: Tensor, v: Tensor) -> Tensor:
        q, k = self._qk(x)
        return F.scaled_dot_product_attention(q, k, self._heads(v), scale=self.scale)

    def attention_weights(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """The blended attention matrices, without dropout. Shape: (B, N, C) -> (B, nh, N, N)."""
        if self.gating_param is None:
            return super().attention_weights(x, grid)
        grid = self._check_grid(x, grid)
        q, k = self._qk(x)
        content = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        rows, columns = self.position_factors(grid, x.dtype)
        position = position_factors.joint(rows, columns)  # (nh, N, N)
        gate = self._gate(x.dtype)
        return (1 - gate) * content + gate * position

    def _gate(self, dtype: torch.dtype) -> Tensor:
        return self.gating_param.sigmoid().to(dtype).reshape(-1, 1, 1)  # (nh, 1, 1)


def _blend(content: Tensor, position: Tensor, gate: Tensor) -> Tensor:
    """(1 - gate) * content + gate * position, into `content` itself where backward needs none."""
    if content.requires_grad or is_recorded():  # compilers plan memory themselves
        return torch.lerp(content, position, gate)
    return content.lerp_(position, gate)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
