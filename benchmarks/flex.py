"""Our attentions in FlexAttention: the same sums, as PyTorch's own compiled kernel takes them.

Where a layer is more than one softmax, the rest is arithmetic on its results: a blend of two
outputs, or a share of the normaliser, which FlexAttention returns as a log-sum-exp.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

from zoo.layers.conv_attention import ConvAttention2d
from zoo.layers.gpsa import GatedPositionalSelfAttention

_KEYS = 16  # width of the zeros that stand for queries and keys where only positions count


class FlexGPSA(nn.Module):
    """GPSA with the weights of a layer of ours: plain attention, blended with FlexAttention whose
    score is the position alone.

    Args:
        ours: with learned gates, reach in patches.
        grid: (H, W) in patches.
        compiled: whether FlexAttention is compiled; without, it builds the N x N matrix.
    Shape: (B, N, C) -> (B, N, C).
    """

    def __init__(
        self, ours: GatedPositionalSelfAttention, grid: tuple[int, int], compiled: bool = True
    ) -> None:
        super().__init__()
        self.ours, self.grid = ours, grid
        self.attend: Any = torch.compile(flex_attention) if compiled else flex_attention

    def forward(self, x: Tensor) -> Tensor:
        ours, width = self.ours, self.grid[1]
        v = ours._heads(ours.v(x))  # (B, nh, N, hd)
        content = ours._attend_by_content(x, ours.v(x))
        weight, _ = ours.position_weights()  # the bias is the same for all keys

        def score(_: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            dx, dy = key % width - query % width, key // width - query // width
            a, b, c = weight[head, 0], weight[head, 1], weight[head, 2]
            return a * dx + b * dy + c * (dx * dx + dy * dy)

        nothing = x.new_zeros(*v.shape[:3], _KEYS)
        position = self.attend(nothing, nothing, v, score_mod=score)
        gate = ours.gating_param.sigmoid().view(1, -1, 1, 1)
        return ours._project((1 - gate) * content + gate * position)


class FlexConvAttention(nn.Module):
    """Convolutional attention with the projections of a layer of ours: FlexAttention under a block
    mask of the window.

    The m positions of a window outside the image have logit 0 and value 0: they add m to the
    normaliser, so that the output is scaled by exp(lse) / (exp(lse) + m).

    Args:
        ours: keeps the grid, does not mask the border.
        grid: (H, W) of the map in pixels.
    Shape: (B, C, H, W) -> (B, C', H, W).
    """

    def __init__(
        self, ours: ConvAttention2d, grid: tuple[int, int], device: str, compiled: bool = True
    ) -> None:
        super().__init__()
        (height, width), reach = grid, ours.kernel_size // 2
        self.ours, self.grid = ours, grid
        self.attend: Any = torch.compile(flex_attention) if compiled else flex_attention

        def inside(_: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            far = (query // width - key // width).abs(), (query % width - key % width).abs()
            return (far[0] <= reach) & (far[1] <= reach)

        tokens = height * width
        self.window = create_block_mask(inside, None, None, tokens, tokens, device=device)
        ones = torch.ones(1, 1, height, width, device=device)
        kernel = torch.ones(1, 1, ours.kernel_size, ours.kernel_size, device=device)
        present = F.conv2d(ones, kernel, padding=reach)
        self.register_buffer("outside", (ours.kernel_size**2 - present).reshape(1, 1, tokens))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.flatten(3).transpose(2, 3) for part in self.ours._project(x))
        out, aux = self.attend(
            q, k, v, block_mask=self.window, scale=self.ours.scale, return_aux=AuxRequest(lse=True)
        )
        share = torch.sigmoid(aux.lse - self.outside.log()).unsqueeze(-1)  # (B, nh, N, 1)
        out = (out * share).transpose(2, 3)  # (B, nh, hd, N)
        return self.ours.to_out(out.flatten(1, 2).unflatten(2, self.grid))
