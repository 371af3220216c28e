"""MLP-Mixer as how-do-vits-work has it.

Tolstikhin et al., *MLP-Mixer: An all-MLP Architecture for Vision*, NeurIPS 2021, arXiv:2105.01601.
Keys and numbers follow how-do-vits-work `models/mixer.py` (Park & Kim, arXiv:2202.06709). Where we
differ on purpose: depth 1 works, the grid may be a rectangle, and images up to a patch smaller than
it are zero-padded.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import InputError
from ..layers.embeddings import PatchEmbedding
from ..layers.positions import to_pair
from ..layers.residual import DropPath, drop_path_rates
from ..layers.transformer import FeedForward
from ._base import SequentialHeadClassifier


class TokenMlp(FeedForward):
    """A feed-forward part along the tokens: they are the channels of its 1x1 convolutions.

    Shape: (B, N, C) -> the same.
    """

    def __init__(self, num_patches: int, hidden_dim: int, dropout: float = 0.0) -> None:
        super().__init__(num_patches, hidden_dim, dropout=dropout)
        self.net[0] = nn.Conv1d(num_patches, hidden_dim, 1)
        self.net[3] = nn.Conv1d(hidden_dim, num_patches, 1)


class MixerBlock(nn.Module):
    """x + token MLP(LN(x)), then x + channel MLP(LN(x)), each branch under stochastic depth.

    Args: hidden_dim: token width; spatial_dim, channel_dim: hidden widths of the token and the
        channel MLP; num_patches: N; dropout, drop_path: rates.
    Shape: (B, N, hidden_dim) -> the same.
    """

    def __init__(
        self,
        hidden_dim: int,
        spatial_dim: int,
        channel_dim: int,
        num_patches: int,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_dim)
        self.ff1 = TokenMlp(num_patches, spatial_dim, dropout)
        self.drop_path1 = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(hidden_dim)
        self.ff2 = FeedForward(hidden_dim, channel_dim, dropout=dropout)
        self.drop_path2 = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self.ff1(self.norm1(x)))
        return x + self.drop_path2(self.ff2(self.norm2(x)))


class TokenMean(nn.Module):
    """The mean of all tokens. Shape: (B, N, C) -> (B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class MLPMixer(SequentialHeadClassifier):
    """Patches, blocks that mix tokens and channels in turn, LayerNorm, mean, linear head.

    Args:
        img_size: (height, width) or one number, in pixels; it fixes the patch grid, because the
            token MLP has one weight per patch.
        patch_size, in_chans, num_classes: as in timm; num_classes=0 returns the embedding.
        embed_dim, depth: token width and number of blocks.
        token_dim, channel_dim: hidden widths of the token and the channel MLPs.
        drop_rate: dropout in both; drop_path_rate: stochastic depth of the last block (linear from
            0).
    Shape: (B, in_chans, H, W) -> (B, num_classes), H and W with the grid of `img_size`.
    Raises: InputError in `forward` for an image with another grid; it names the sizes that work.
    """

    any_size = False

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 256,
        depth: int = 8,
        token_dim: int = 128,
        channel_dim: int = 1024,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.embed_dim = embed_dim
        self.in_chans = in_chans
        patches = PatchEmbedding(patch_size, embed_dim, in_chans)
        self.grid = patches.grid_of(to_pair(img_size))
        self.embedding = nn.Sequential(patches)
        tokens = self.grid[0] * self.grid[1]
        self.mlps = nn.Sequential()
        for rate in drop_path_rates(drop_path_rate, depth):
            block = MixerBlock(embed_dim, token_dim, channel_dim, tokens, drop_rate, rate)
            self.mlps.append(block)
        self.classifier = nn.Sequential(
            nn.LayerNorm(embed_dim), TokenMean(), self._make_classifier()
        )
        reduction = patches.patch_size[0]
        self.feature_info = [
            {"module": f"mlps.{i}", "num_chs": embed_dim, "reduction": reduction}
            for i in range(depth)
        ]

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> tokens (B, N, C)."""
        return self.mlps(self.embedding(self._prepared(x)))

    def _prepared(self, x: Tensor) -> Tensor:
        x = super()._prepared(x)
        self._check_grid(x.shape[2], x.shape[3])
        return x

    def _token_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.grid

    def _check_grid(self, height: int, width: int) -> None:
        patches = self.embedding[0]
        if patches.grid_of((height, width)) == self.grid:
            return
        (ph, pw), (rows, columns) = patches.patch_size, self.grid
        raise InputError(
            f"this Mixer is built for {rows} x {columns} patches: it takes heights of "
            f"{(rows - 1) * ph + 1} to {rows * ph} and widths of {(columns - 1) * pw + 1} to "
            f"{columns * pw} pixels; got {height} x {width}, for which build it with "
            f"img_size=({height}, {width})"
        )
