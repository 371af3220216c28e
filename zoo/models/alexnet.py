"""AlexNet, in the one-tower form.

Krizhevsky, *One weird trick for parallelizing convolutional neural networks*, arXiv:1404.5997,
after Krizhevsky, Sutskever, Hinton, *ImageNet Classification with Deep Convolutional Neural
Networks*, NeurIPS 2012. Keys and numbers follow how-do-vits-work `models/alexnet.py`
(arXiv:2202.06709): convolutions without bias, no BatchNorm. Where we differ on purpose: MC dropout
is off in eval unless asked for (`zoo.layers.mc_dropout`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..layers.residual import ConvUnit
from ._cnn import StagedCNN, dropout_rate


class AlexNet(StagedCNN):
    """Five convolutions in three stages with max pools between, a classifier block.

    Args:
        in_chans, num_classes: as in timm; num_classes=0 returns the embedding.
        block: "dnn", or "mcdo" with MC dropout of rate `mc_rate` after every ReLU.
        smoothing: one smoothing block after every stage, or three numbers of blocks.
        sblock, temp, sfilter, pad_mode: of the smoothing blocks (`SmoothingBlock`).
        cblock, clip_temp: kind of classifier block and temperature of "gapclip"
            (`ClassifierBlock`). "mlp" comes behind a max pool and an average pool to 6 x 6 (2 x 2
            without `stem`), the others directly.
        stem: True for ImageNet (11x11 stride 4), False for CIFAR (3x3 stride 2).
        widths, mlp_dim: channels of the convolutions, and of the hidden layers of "mlp".
    Shape: (B, in_chans, H, W) -> (B, num_classes); H and W at least `min_size`.
    Raises: ValueError for an unknown block, smoothing or classifier kind, or images that are too
        small.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        block: str = "dnn",
        mc_rate: float = 0.1,
        smoothing: bool | Sequence[int] = False,
        sblock: str = "tanh_blur",
        temp: float | None = None,
        sfilter: Sequence[float] = (1, 1),
        pad_mode: str = "constant",
        cblock: str = "mlp",
        clip_temp: float = 2.0,
        stem: bool = True,
        widths: Sequence[int] = (64, 192, 384, 256, 256),
        mlp_dim: int = 4096,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.stem = stem
        if len(widths) != 5:
            raise ValueError(
                f"widths must be five numbers, one per convolution; got {tuple(widths)}"
            )
        rate = dropout_rate(block, mc_rate)

        def unit(i: int, kernel: int, stride: int = 1, padding: int = 1) -> ConvUnit:
            chans = (in_chans, *widths)[i]
            return ConvUnit(chans, widths[i], kernel, stride, padding, norm="none", dropout=rate)

        def pool() -> nn.Module:
            return nn.MaxPool2d(3, stride=2) if stem else nn.MaxPool2d(2)

        layers = [
            nn.Sequential(unit(0, 11, 4, 2) if stem else unit(0, 3, 2, 1)),
            nn.Sequential(pool(), unit(1, 5, padding=2)),
            nn.Sequential(pool(), unit(2, 3), unit(3, 3), unit(4, 3)),
        ]
        first = 4 if stem else 2
        channels = (widths[0], widths[1], widths[4])
        self._add_stages(layers, channels, [first, 2 * first, 4 * first])
        self._add_smoothing(
            smoothing, (1,) * 3, kind=sblock, temp=temp, sfilter=sfilter, pad_mode=pad_mode
        )
        side = 6 if stem else 2
        features = widths[4] * side**2 if cblock == "mlp" else widths[4]
        pools = [pool(), nn.AdaptiveAvgPool2d(side)]
        self._add_classifier(pools, features, cblock, temp=clip_temp, hidden_dim=mlp_dim)
        self.min_size = self._smallest_side()

    def _too_small(self, height: int, width: int) -> str:
        hint = "; stem=False takes smaller images" if self.stem else ""
        return super()._too_small(height, width) + hint
