"""The vision transformer of how-do-vits-work.

Dosovitskiy et al., *An Image is Worth 16x16 Words*, ICLR 2021, arXiv:2010.11929. Keys and numbers
follow how-do-vits-work `models/vit.py` (Park & Kim, arXiv:2202.06709); unlike timm's, patches are
flattened channel last into a linear layer, q, k, v have no bias, LayerNorm eps is 1e-5 and the head
width is fixed. Where we differ on purpose: depth 1 works, and images of any size run (zero-padded
to whole patches, position embedding resampled bicubically).
"""

from __future__ import annotations

from torch import Tensor, nn

from ..layers.attention import Attention1d
from ..layers.embeddings import PatchEmbedding, TakeClassToken, TokenEmbedding
from ..layers.positions import to_pair
from ..layers.residual import drop_path_rates
from ..layers.transformer import TransformerBlock
from ._base import SequentialHeadClassifier


class VisionTransformer(SequentialHeadClassifier):
    """Patches, class token, positions, transformer blocks; the class token is classified.

    Args:
        img_size: (height, width) or one number, in pixels: the size of the position embedding. Any
            other size may be passed to `forward`.
        patch_size, in_chans, num_classes: as in timm; num_classes=0 returns the class token.
        embed_dim, depth, num_heads, head_dim, mlp_dim: of the blocks; the attention's inner width
            is num_heads * head_dim.
        drop_rate: dropout in attention outputs and feed-forward parts; pos_drop_rate after
            positions.
        drop_path_rate: stochastic depth of the last block (linear from 0).
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
        patches = PatchEmbedding(patch_size, embed_dim, in_chans)
        self.embedding = TokenEmbedding(patches, embed_dim, to_pair(img_size), pos_drop_rate)
        self.transformers = nn.Sequential()
        for rate in drop_path_rates(drop_path_rate, depth):
            attention = Attention1d(embed_dim, None, num_heads, head_dim, drop_rate)
            block = TransformerBlock(embed_dim, attention, mlp_dim, None, drop_rate, rate)
            self.transformers.append(block)
        self.classifier = nn.Sequential(
            TakeClassToken(), nn.LayerNorm(embed_dim), self._make_classifier()
        )
        reduction = patches.patch_size[0]
        self.feature_info = [
            {
                "module": f"transformers.{i}",
                "num_chs": embed_dim,
                "reduction": reduction,
                "num_prefix_tokens": 1,
            }
            for i in range(depth)
        ]

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> tokens (B, 1 + N, C), class token first."""
        return self.transformers(self.embedding(self._prepared(x)))

    def _token_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.embedding[0].grid_of(size)
