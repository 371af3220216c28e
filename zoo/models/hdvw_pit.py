"""The pooling-based vision transformer of how-do-vits-work.

Heo et al., *Rethinking Spatial Dimensions of Vision Transformers*, ICCV 2021, arXiv:2103.16302.
Keys and numbers follow how-do-vits-work `models/pit.py` (Park & Kim, arXiv:2202.06709): positions
for the class token too, no bias in q, k, v, blocks and pools in one list. Where we differ on
purpose: images of any size and aspect ratio run, with the position embedding resampled bicubically.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..layers.attention import Attention1d
from ..layers.embeddings import ConvEmbedding, TakeClassToken, TokenEmbedding
from ..layers.exporting import ceil_div
from ..layers.positions import to_pair
from ..layers.residual import drop_path_rates
from ..layers.transformer import TransformerBlock
from ._base import SequentialHeadClassifier
from ._checkpointing import Step, on_grid


class DepthwiseConv2d(nn.Module):
    """A convolution with one group per input channel.

    Shape: (B, dim_in, H, W) -> (B, dim_out, H', W').
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        kernel_size: int = 3,
        padding: int = 1,
        stride: int = 2,
        bias: bool = True,
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(dim_in, dim_out, kernel_size, stride, padding, groups=dim_in, bias=bias)
        self.net = nn.Sequential(conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TokenPool(nn.Module):
    """Halve the token grid by a depth-wise 3x3 convolution; the class token takes a linear layer.

    Args: dim_in, dim_out: token widths, dim_out a multiple of dim_in.
    Shape: (B, 1 + H * W, dim_in), grid (H, W) -> (B, 1 + ceil(H/2) * ceil(W/2), dim_out).
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.cls_ff = nn.Linear(dim_in, dim_out)
        self.downsample = DepthwiseConv2d(dim_in, dim_out)

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        if grid is None:
            side = math.isqrt(x.shape[1] - 1)
            grid = (side, side)
        maps = x[:, 1:].transpose(1, 2).unflatten(2, grid)  # (B, C, H, W)
        tokens = self.downsample(maps).flatten(2).transpose(1, 2)
        return torch.cat((self.cls_ff(x[:, :1]), tokens), dim=1)


class PoolingStages(nn.Sequential):
    """Transformer blocks and `TokenPool`s in order.

    Shape: (B, 1 + N, C), grid -> (B, 1 + N', C').
    """

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        for step in self.steps(grid):
            x = step(x)
        return x

    def steps(self, grid: tuple[int, int]) -> Iterator[Callable[[Tensor], Tensor]]:
        """The blocks and pools as functions of tokens that start on this grid."""
        for block in self:
            if isinstance(block, TokenPool):
                yield on_grid(block, grid)
                grid = (ceil_div(grid[0], 2), ceil_div(grid[1], 2))
            else:
                yield block


class PoolingVisionTransformer(SequentialHeadClassifier):
    """Overlapping patches, class token, positions, three stages with pools between, linear head.

    Args:
        img_size: (height, width) or one number, in pixels: the size of the position embedding. Any
            other size may be passed to `forward`; pixels at the bottom and right that fill no patch
            are left out, as upstream.
        patch_size, stride: of the embedding, in pixels.
        in_chans, num_classes: as in timm; num_classes=0 returns the class token.
        embed_dims, depths, num_heads, head_dims, mlp_dims: of the three stages.
        drop_rate: dropout in attention outputs and feed-forward parts; pos_drop_rate after
            positions.
        drop_path_rate: stochastic depth of the last block (linear from 0).
    Shape: (B, in_chans, H, W) -> (B, num_classes).
    Raises: ValueError unless there are three stages whose widths are multiples of the one before.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        stride: int = 8,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dims: Sequence[int] = (64, 128, 256),
        depths: Sequence[int] = (2, 6, 4),
        num_heads: Sequence[int] = (2, 4, 8),
        head_dims: Sequence[int] = (32, 32, 32),
        mlp_dims: Sequence[int] = (256, 512, 1024),
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        _check_stages(embed_dims, depths, num_heads, head_dims, mlp_dims)
        self.num_classes = num_classes
        self.num_features = self.embed_dim = embed_dims[-1]
        self.in_chans = in_chans
        patches = ConvEmbedding(patch_size, embed_dims[0], in_chans, stride)
        self.embedding = TokenEmbedding(patches, embed_dims[0], to_pair(img_size), pos_drop_rate)
        rates = drop_path_rates(drop_path_rate, sum(depths))
        self.transformers = PoolingStages()
        self.feature_info = []
        for n, (dim, depth) in enumerate(zip(embed_dims, depths, strict=True)):
            if n:
                self.transformers.append(TokenPool(embed_dims[n - 1], dim))
            for _ in range(depth):
                attention = Attention1d(dim, None, num_heads[n], head_dims[n], drop_rate)
                rate = rates.pop(0)
                block = TransformerBlock(dim, attention, mlp_dims[n], None, drop_rate, rate)
                name = f"transformers.{len(self.transformers)}"
                info = {"module": name, "num_chs": dim, "reduction": patches.stride << n}
                self.feature_info.append({**info, "num_prefix_tokens": 1})
                self.transformers.append(block)
        self.classifier = nn.Sequential(
            TakeClassToken(), nn.LayerNorm(self.num_features), self._make_classifier()
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> tokens (B, 1 + N, C) of the last stage, class token first."""
        x = self._prepared(x)
        return self.transformers(self.embedding(x), self._token_grid((x.shape[2], x.shape[3])))

    def _token_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.embedding[0].grid_of(size)

    def _trunk(self, size: tuple[int, int]) -> list[Step]:
        steps = self.transformers.steps(self._token_grid(size))
        named: list[Step] = [(f"transformers.{i}", step) for i, step in enumerate(steps)]
        return [("embedding", partial(self._enter, self.embedding)), *named]


def _check_stages(embed_dims: Sequence[int], *others: Sequence[int]) -> None:
    lengths = {len(values) for values in (embed_dims, *others)}
    if lengths != {3}:
        raise ValueError(
            "embed_dims, depths, num_heads, head_dims and mlp_dims have one number for each of the "
            f"three stages; got lengths {sorted(lengths)}"
        )
    if any(wide % narrow for narrow, wide in pairwise(embed_dims)):
        raise ValueError(
            f"each width must be a multiple of the one before; got {tuple(embed_dims)}"
        )
