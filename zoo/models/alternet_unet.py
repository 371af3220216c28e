"""AlterNet in U-Net form: our extension, not a published result."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.residual import EXPANSION
from ._base import check_image
from .alternet import Stem, check_stages, make_stage, make_stages


class UpStage(nn.Module):
    """Bilinear upsampling to a skip connection's size, concatenation with it, a stage of blocks.

    Shape: (B, C, h, w) and skip (B, C', H, W) -> (B, channels of the stage, H, W).
    """

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
        return self.stage(torch.cat((x, skip), dim=1))


class AlterNetUNet(nn.Module):
    """AlterNet's stages down, and stages of the same plan language up, with skips (U-Net form).

    Our extension, not a published result: the paper and its code say nothing about decoders. U-Net
    is Ronneberger, Fischer, Brox 2015, arXiv:1505.04597.

    Args:
        in_chans, num_classes: channels of the image and of the output map.
        stages, widths, heads, bottleneck, window_size, head_dim, stem_pool, drop_path_rate: of the
            encoder (`AlterNet`).
        decoder: plans of the upsampling stages, one fewer than `stages`; each has the width and the
            heads of the encoder stage whose size it restores.
    Shape: (B, in_chans, H, W) -> (B, num_classes, H, W), any H and W.
    Raises: ValueError for a plan that cannot be built.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 19,
        stages: Sequence[str] = ("CC", "CA", "CA", "CA"),
        decoder: Sequence[str] = ("CA", "CA", "CC"),
        widths: Sequence[int] = (64, 128, 256, 512),
        heads: Sequence[int] = (3, 6, 12, 24),
        bottleneck: bool = False,
        window_size: int = 7,
        head_dim: int = 64,
        stem_pool: bool = True,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_stages(stages, widths, heads)
        if len(decoder) != len(stages) - 1:
            raise ValueError(
                f"decoder needs one stage fewer than stages; got {len(decoder)} and {len(stages)}"
            )
        self.in_chans = in_chans
        conv = {"bottleneck": bottleneck, "preact": True}
        attention = {"head_dim": head_dim, "window_size": window_size}
        expansion = EXPANSION if bottleneck else 1
        channels = [width * expansion for width in widths]
        self.stem = Stem(in_chans, widths[0], stem_pool)
        encoder = make_stages(stages, widths, heads, drop_path_rate, conv, attention)
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList()
        for blocks, n in zip(decoder, reversed(range(len(decoder))), strict=True):
            keywords = {**attention, "num_heads": heads[n]}
            rates, joined = [0.0] * len(blocks), channels[n + 1] + channels[n]
            stage = make_stage(blocks, joined, widths[n], 1, rates, conv, keywords)
            self.decoder.append(UpStage(stage))
        self.norm = nn.BatchNorm2d(channels[0])
        self.head = nn.Conv2d(channels[0], num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_image(x, self.in_chans)
        size = x.shape[2:]
        x = self.stem(x)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        for stage, skip in zip(self.decoder, skips[-2::-1], strict=True):
            x = stage(x, skip)
        x = self.head(F.relu(self.norm(x)))
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
