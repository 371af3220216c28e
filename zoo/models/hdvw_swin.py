"""The Swin transformer of how-do-vits-work.

Liu et al., *Swin Transformer: Hierarchical Vision Transformer using Shifted Windows*, ICCV 2021,
arXiv:2103.14030. Keys and numbers follow how-do-vits-work `models/swin.py` (Park & Kim,
arXiv:2202.06709): patch merging is one convolution without norm, in front of every stage;
attention, see `layers/window_attention.py`. Where we differ on purpose: odd depths are refused
(upstream rounds them down), any image size runs (zero-padded to whole patches and windows, padded
keys masked), and `exact_mask` offers the correct mask of shifted windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..layers.positions import pad_to_multiple
from ..layers.residual import drop_path_rates
from ..layers.transformer import TransformerBlock
from ..layers.windows import WindowAttention
from ._base import SequentialHeadClassifier


class PatchMerging(nn.Module):
    """A convolution with kernel and stride `pool`; maps are zero-padded to multiples of it.

    Shape: (B, in_channels, H, W) -> (B, out_channels, ceil(H / pool), ceil(W / pool)).
    """

    def __init__(self, in_channels: int, out_channels: int, pool: int) -> None:
        super().__init__()
        self.pool = pool
        self.patch_merge = nn.Conv2d(in_channels, out_channels, pool, stride=pool)

    def forward(self, x: Tensor) -> Tensor:
        return self.patch_merge(pad_to_multiple(x, (self.pool, self.pool)))


class SwinTransformer(SequentialHeadClassifier):
    """Four stages of patch merging and pairs of window attention blocks, the second one shifted.

    Args:
        in_chans, num_classes: as in timm; num_classes=0 returns the pooled embedding.
        embed_dims, depths, num_heads, mlp_dims: of the stages; depths are even.
        head_dim: the attention's inner width is num_heads * head_dim.
        window_size: side of the windows, in the stage's own pixels.
        pools: merging factor in front of every stage; (1, 2, 2, 2) for 32 x 32 images.
        exact_mask: False reproduces upstream's mask of shifted windows, True is right
            (`WindowAttention`).
        drop_rate: dropout in attention outputs and feed-forward parts.
        drop_path_rate: stochastic depth of the last block (linear from 0).
    Shape: (B, in_chans, H, W) -> (B, num_classes), any H and W.
    Raises: ValueError for odd depths or stages of different number.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dims: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        head_dim: int = 32,
        mlp_dims: Sequence[int] = (384, 768, 1536, 3072),
        window_size: int = 7,
        pools: Sequence[int] = (4, 2, 2, 2),
        exact_mask: bool = False,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        _check_stages(embed_dims, depths, num_heads, mlp_dims, pools)
        self.num_classes = num_classes
        self.num_features = self.embed_dim = embed_dims[-1]
        self.in_chans = in_chans
        rates = drop_path_rates(drop_path_rate, sum(depths))
        channels, reduction = in_chans, 1
        self.feature_info = []
        attention = {
            "head_dim": head_dim,
            "window_size": window_size,
            "exact_mask": exact_mask,
            "dropout": drop_rate,
        }
        for n, (dim, heads, mlp_dim) in enumerate(
            zip(embed_dims, num_heads, mlp_dims, strict=True)
        ):
            drops = [rates.pop(0) for _ in range(depths[n])]
            stage = _stage(
                PatchMerging(channels, dim, pools[n]), dim, heads, mlp_dim, drops, attention
            )
            self.add_module(f"layer{n + 1}", stage)
            channels, reduction = dim, reduction * pools[n]
            self.feature_info += [
                {"module": f"layer{n + 1}.{i}", "num_chs": dim, "reduction": reduction}
                for i in range(1, len(stage))
            ]
        self.stages = len(embed_dims)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.LayerNorm(self.num_features),
            self._make_classifier(),
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> map (B, C, h, w) of the last stage."""
        x = self._prepared(x)
        for n in range(self.stages):
            x = getattr(self, f"layer{n + 1}")(x)
        return x


def _stage(
    merging: PatchMerging,
    dim: int,
    num_heads: int,
    mlp_dim: int,
    drop_path: Sequence[float],
    attention: dict[str, Any],
) -> nn.Sequential:
    """Patch merging, then as many blocks as drop-path rates, every second one shifted."""
    stage = nn.Sequential(merging)
    for i, rate in enumerate(drop_path):
        attn = WindowAttention(dim, num_heads=num_heads, shifted=i % 2 == 1, **attention)
        dropout = attention["dropout"]
        stage.append(TransformerBlock(dim, attn, mlp_dim, None, dropout, rate, layout="map"))
    return stage


def _check_stages(embed_dims: Sequence[int], depths: Sequence[int], *others: Sequence[int]) -> None:
    lengths = {len(values) for values in (embed_dims, depths, *others)}
    if len(lengths) != 1:
        raise ValueError(
            "embed_dims, depths, num_heads, mlp_dims and pools have one number per stage each; "
            f"got lengths {sorted(lengths)}"
        )
    if any(depth % 2 for depth in depths):
        raise ValueError(
            "every stage has pairs of blocks, unshifted and shifted, so depths must be even; "
            f"got {tuple(depths)}"
        )
