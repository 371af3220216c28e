"""VGG with BatchNorm, post- or pre-activation.

Simonyan & Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*,
arXiv:1409.1556. Keys and numbers follow how-do-vits-work `models/{vggnet,prevggnet}.py`
(arXiv:2202.06709): convolutions without bias; a 32 x 32 image leaves 1 x 1, which is copied to 7 x
7 before the classifier. Where we differ on purpose: MC dropout is off in eval unless asked for
(`zoo.layers.mc_dropout`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..layers.residual import ConvUnit
from ._cnn import StagedCNN, dropout_rate


class VGG(StagedCNN):
    """Five stages of 3x3 convolutions with max pools between, a classifier block.

    Args:
        in_chans, num_classes: as in timm; num_classes=0 returns the embedding.
        num_blocks: convolutions of the five stages.
        preact: BN, ReLU, convolution instead of convolution, BN, ReLU; nothing follows the last
            one.
        block: "dnn", or "mcdo" with MC dropout of rate `mc_rate` after every convolution unit.
        smoothing: one smoothing block after every stage, or five numbers of blocks.
        sblock, temp, sfilter, pad_mode: of the smoothing blocks (`SmoothingBlock`).
        cblock, clip_temp: kind of classifier block and temperature of "gapclip"
            (`ClassifierBlock`). "mlp" comes behind a max pool and an average pool to 7 x 7, the
            others directly.
        stem: for uniformity with the other convolutional networks; VGG has one stem for all sizes.
        widths, mlp_dim: channels of the stages, and of the hidden layers of "mlp".
    Shape: (B, in_chans, H, W) -> (B, num_classes); H and W at least `min_size`.
    Raises: ValueError for an unknown block, smoothing or classifier kind, or images that are too
        small.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        num_blocks: Sequence[int] = (1, 1, 2, 2, 2),
        preact: bool = False,
        block: str = "dnn",
        mc_rate: float = 0.3,
        smoothing: bool | Sequence[int] = False,
        sblock: str = "tanh_blur",
        temp: float | None = None,
        sfilter: Sequence[float] = (1, 1),
        pad_mode: str = "constant",
        cblock: str = "mlp",
        clip_temp: float = 2.0,
        stem: bool = True,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        mlp_dim: int = 4096,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        if len(num_blocks) != 5 or len(widths) != 5 or min(num_blocks) < 1:
            raise ValueError(
                "num_blocks and widths must be five positive numbers each, one per stage; "
                f"got num_blocks={tuple(num_blocks)}, widths={tuple(widths)}"
            )
        rate = dropout_rate(block, mc_rate)
        channels = [in_chans, *widths]
        layers = []
        for n, count in enumerate(num_blocks):
            layer = nn.Sequential() if n == 0 else nn.Sequential(nn.MaxPool2d(2))
            for i in range(count):
                layer.append(
                    ConvUnit(
                        channels[n + 1] if i else channels[n],
                        channels[n + 1],
                        norm="pre" if preact else "post",
                        dropout=rate,
                    )
                )
            layers.append(layer)
        self._add_stages(layers, widths, [1, 2, 4, 8, 16])
        self._add_smoothing(
            smoothing, (1,) * 5, kind=sblock, temp=temp, sfilter=sfilter, pad_mode=pad_mode
        )
        features = widths[-1] * 49 if cblock == "mlp" else widths[-1]
        pools = [nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(7)]
        self._add_classifier(pools, features, cblock, temp=clip_temp, hidden_dim=mlp_dim)
        self.min_size = self._smallest_side()
