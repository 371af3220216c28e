"""A vision transformer whose attention is 2-D convolutional (how-do-vits-work's "convit", NOT
ConViT).

Cite Park & Kim, *How Do Vision Transformers Work?*, ICLR 2022, arXiv:2202.06709, whose code this
follows (`models/convit.py`), and Yang et al., *Convolutional Self-Attention Networks*, NAACL 2019,
arXiv:1904.03107, for the idea; ConViT (GPSA, arXiv:2103.10697) is another network, see
`models/convit.py` here. Where we
differ on purpose: the default padding keeps the grid, and images of any size run (zero-padded to
whole patches, position embedding resampled bicubically).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers.conv_attention import ConvAttention2d
from ..layers.positions import pad_to_multiple, patch_grid, resample_position_embedding, to_pair
from ..layers.residual import drop_path_rates
from ..layers.transformer import TransformerBlock
from ._base import SequentialHeadClassifier


class MapPositionEmbedding(nn.Module):
    """Adds a learned embedding to a map, resampled if the map is not the trained grid.

    Shape: (B, C, Gh, Gw) -> the same. The parameter is (1, grid_h * grid_w, C), 0.02 * normal at
        first.
    """

    def __init__(self, grid: tuple[int, int], dim: int) -> None:
        super().__init__()
        self.grid = grid
        self.pos_embedding = nn.Parameter(
            nn.init.normal_(torch.empty(1, grid[0] * grid[1], dim), std=0.02)
        )

    def forward(self, x: Tensor) -> Tensor:
        grid = (x.shape[-2], x.shape[-1])
        tokens = resample_position_embedding(self.pos_embedding, self.grid, grid)  # (1, N, C)
        return x + tokens.transpose(1, 2).reshape(1, x.shape[1], *grid)


class ConvAttentionViT(SequentialHeadClassifier):
    """Patch embedding, position embedding, blocks of 2-D convolutional attention, average, linear
    head.

    Args:
        img_size: (height, width) or one number, in pixels: the size of the position embedding. Any
            other size may be passed to `forward`.
        patch_size, in_chans, num_classes: as in timm; num_classes=0 returns the pooled embedding.
        embed_dim, depth, num_heads, head_dim, mlp_dim: of the blocks; the attention's inner width
            is num_heads * head_dim.
        drop_rate: dropout in attention outputs and feed-forward parts; pos_drop_rate after
            positions.
        drop_path_rate: stochastic depth of the last block (linear from 0).
        kernel_size, dilation, padding, kv_stride, mask_border: of the attention
            (`ConvAttention2d`).
    Shape: (B, in_chans, H, W) -> (B, num_classes).
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 192,
        depth: int = 12,
        kernel_size: int = 3,
        dilation: int = 1,
        padding: int | None = None,
        kv_stride: int = 1,
        mask_border: bool = False,
        num_heads: int = 3,
        head_dim: int = 64,
        mlp_dim: int = 768,
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.embed_dim = embed_dim
        self.in_chans = in_chans
        self.patch_size = to_pair(patch_size)
        grid = patch_grid(to_pair(img_size), self.patch_size)
        self.embedding = nn.Sequential(
            nn.Conv2d(in_chans, embed_dim, self.patch_size, stride=self.patch_size),
            nn.Identity(),  # upstream's rearrangement into tokens
            MapPositionEmbedding(grid, embed_dim),
            nn.Dropout(pos_drop_rate),
        )
        self.transformers = nn.Sequential(
            *(
                TransformerBlock(
                    embed_dim,
                    ConvAttention2d(
                        embed_dim,
                        num_heads=num_heads,
                        head_dim=head_dim,
                        kernel_size=kernel_size,
                        dilation=dilation,
                        padding=padding,
                        kv_stride=kv_stride,
                        dropout=drop_rate,
                        mask_border=mask_border,
                    ),
                    mlp_dim,
                    dropout=drop_rate,
                    drop_path=rate,
                    layout="map",
                )
                for rate in drop_path_rates(drop_path_rate, depth)
            )
        )
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.LayerNorm(embed_dim),
            self._make_classifier(),
        )
        self.feature_info = [
            {"module": f"transformers.{i}", "num_chs": embed_dim, "reduction": self.patch_size[0]}
            for i in range(depth)
        ]

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> map (B, C, ceil(H/P), ceil(W/P))."""
        return self.transformers(self.embedding(self._prepared(x)))

    def _prepared(self, x: Tensor) -> Tensor:
        return pad_to_multiple(super()._prepared(x), self.patch_size)
