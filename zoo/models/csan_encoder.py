"""A small image encoder of convolutional self-attention.

The attention is Yang et al. 2019, arXiv:1904.03107 (`layers.csan`), whose authors put it into the
first three layers of a translation model's encoder. The encoder here, on image patches, is our own
and not a published result. Patches form one row-major sequence, so the window is one of tokens: it
runs on from the end of a row of patches to the start of the next.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..layers.attention import MultiHeadSelfAttention, init_linear_
from ..layers.csan import ConvolutionalSelfAttention
from ..layers.embeddings import PatchEmbed
from ..layers.positions import patch_grid, resample_position_embedding
from ..layers.residual import drop_path_rates, truncated_normal_
from ..layers.transformer import TransformerBlock
from ._base import ImageClassifier
from ._checkpointing import Step


class CSANEncoder(ImageClassifier):
    """Patch embedding, position embedding, `local_layers` blocks of convolutional self-attention,
    blocks of plain self-attention, average over tokens, linear head.

    Args:
        img_size: (height, width) or one number, in pixels: the size of the position embedding. Any
            other size may be passed to `forward`.
        patch_size, in_chans, num_classes: as in timm; num_classes=0 returns the pooled embedding.
        embed_dim, depth, num_heads, mlp_ratio: of the blocks.
        kind: "1d", windows within a head; "2d", windows within `head_window` neighbouring heads.
        half_width: window w; a token sees the 2w + 1 tokens around it.
        head_window: neighbouring heads that a head sees, its own in the middle; odd. 2-D form only.
        local_layers: how many blocks, from the first, attend in windows; the others see all tokens.
        neighbours: heads beyond the first and the last (`ConvolutionalSelfAttention`).
        drop_rate, attn_drop_rate: dropout after positions, in the feed-forward parts and after
            projections; and on attention.
        drop_path_rate: stochastic depth of the last block (linear from 0).
    Shape: (B, in_chans, H, W) -> (B, num_classes).
    Raises: ValueError for another `kind`, an even `head_window` or one wider than the heads.
    """

    head_name = "head"

    def __init__(
        self,
        img_size: int | tuple[int, int] = 32,
        patch_size: int | tuple[int, int] = 4,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 96,
        depth: int = 4,
        num_heads: int = 6,
        mlp_ratio: float = 2.0,
        kind: str = "2d",
        half_width: int = 5,
        head_window: int = 3,
        local_layers: int = 3,
        neighbours: str = "wrap_keys",
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.embed_dim = embed_dim
        self.in_chans = in_chans
        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        tokens = self.patch_embed.grid[0] * self.patch_embed.grid[1]
        self.pos_embed = nn.Parameter(truncated_normal_(torch.empty(1, tokens, embed_dim)))
        self.pos_drop = nn.Dropout(drop_rate)
        drops = {"attn_drop": attn_drop_rate, "proj_drop": drop_rate}
        local = {
            "half_width": half_width,
            "head_offsets": _head_offsets(kind, head_window, num_heads),
            "neighbours": neighbours,
        }
        self.blocks = nn.ModuleList(
            TransformerBlock(
                embed_dim,
                ConvolutionalSelfAttention(embed_dim, num_heads, **local, **drops)
                if i < local_layers
                else MultiHeadSelfAttention(embed_dim, num_heads, qkv_bias=True, **drops),
                int(embed_dim * mlp_ratio),
                dropout=drop_rate,
                drop_path=rate,
            )
            for i, rate in enumerate(drop_path_rates(drop_path_rate, depth))
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.head = self._make_classifier()
        init_linear_(self)
        self.feature_info = [
            {
                "module": f"blocks.{i}",
                "num_chs": embed_dim,
                "reduction": self.patch_embed.patch_size[0],
            }
            for i in range(depth)
        ]

    def _trunk(self, size: tuple[int, int]) -> list[Step]:
        """(B, in_chans, H, W) -> normalised tokens (B, N, C), row-major."""
        blocks = [(f"blocks.{i}", block) for i, block in enumerate(self.blocks)]
        return [("patch_embed", self._embed), *blocks, ("norm", self.norm)]

    def _token_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return patch_grid(size, self.patch_embed.patch_size)

    def _final_norm(self, info: dict[str, Any]) -> nn.Module:
        return self.norm

    def _embed(self, x: Tensor) -> Tensor:
        x = self._prepared(x)
        grid = self.patch_embed.grid_of(x)
        x = self.patch_embed(x)
        x = x + resample_position_embedding(self.pos_embed, self.patch_embed.grid, grid)
        return self.pos_drop(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Tokens (B, N, C) -> logits (B, num_classes); their mean (B, C) if `pre_logits`."""
        x = x.mean(1)
        return x if pre_logits else self.head(x)

    def _make_classifier(self) -> nn.Module:
        classifier = super()._make_classifier()
        init_linear_(classifier)
        return classifier


def _head_offsets(kind: str, head_window: int, num_heads: int) -> tuple[int, ...]:
    """Relative heads that a head sees, its own in the middle."""
    if kind not in ("1d", "2d"):
        raise ValueError(f"kind must be '1d' or '2d'; got {kind!r}")
    if kind == "1d":
        return (0,)
    if head_window % 2 == 0 or not 1 <= head_window <= num_heads:
        raise ValueError(
            f"head_window must be odd and at most num_heads; got {head_window} of {num_heads} heads"
        )
    reach = head_window // 2
    return tuple(range(-reach, reach + 1))
