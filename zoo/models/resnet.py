"""ResNet, pre-activation ResNet, ResNeXt, WideResNet, SE-ResNet and CBAM-ResNet: one class.

He et al., arXiv:1512.03385 and arXiv:1603.05027; Xie et al., arXiv:1611.05431; Zagoruyko &
Komodakis, arXiv:1605.07146; Hu et al., arXiv:1709.01507; Woo et al., arXiv:1807.06521. Keys and
numbers follow how-do-vits-work `models/{resnet,preresnet,...}.py` (Park & Kim, ICLR 2022,
arXiv:2202.06709), smoothing Park & Kim, ICML 2022, arXiv:2105.12639. Where we differ on purpose: MC
dropout is off in eval unless asked for (`zoo.layers.mc_dropout`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..layers.residual import ResidualBlock, conv_nxn, drop_path_rates, make_gate
from ._cnn import StagedCNN, dropout_rate


class ResNet(StagedCNN):
    """Stem, four stages of residual blocks, a classifier block.

    Args:
        in_chans, num_classes: as in timm; num_classes=0 returns the embedding.
        num_blocks: residual blocks of the four stages.
        bottleneck, preact, groups, width_per_group: of the blocks (`ResidualBlock`).
        gate: None, "se" or "cbam", with `reduction`.
        block: "dnn", or "mcdo" with MC dropout of rate `mc_rate` in every block.
        smoothing: one smoothing block after every stage where upstream has them (without the last
            stage for pre-activation and gated networks), or four numbers of blocks.
        sblock, temp, sfilter, pad_mode: of the smoothing blocks (`SmoothingBlock`).
        cblock, clip_temp: kind of classifier block and temperature of "gapclip"
            (`ClassifierBlock`); None means "gap", with `preact` "bngap". "mlp" pools to 7 x 7
            first.
        stem: True for ImageNet (7x7 stride 2, max pool), False for CIFAR (3x3 stride 1).
        widths: channels of the four stages, before the expansion of bottlenecks.
        drop_path_rate: stochastic depth of the last block (linear from 0).
    Shape: (B, in_chans, H, W) -> (B, num_classes), any H and W.
    Raises: ValueError for an unknown block, smoothing, classifier or gate kind.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        num_blocks: Sequence[int] = (2, 2, 2, 2),
        bottleneck: bool = False,
        preact: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        gate: str | None = None,
        reduction: int = 16,
        block: str = "dnn",
        mc_rate: float = 0.3,
        smoothing: bool | Sequence[int] = False,
        sblock: str = "tanh_blur",
        temp: float | None = None,
        sfilter: Sequence[float] = (1, 1),
        pad_mode: str = "constant",
        cblock: str | None = None,
        clip_temp: float = 2.0,
        stem: bool = True,
        widths: Sequence[int] = (64, 128, 256, 512),
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        _check_stages(num_blocks, widths)
        keywords = {
            "bottleneck": bottleneck,
            "preact": preact,
            "groups": groups,
            "width_per_group": width_per_group,
            "dropout": dropout_rate(block, mc_rate),
            "gate": None if gate is None else lambda chans: make_gate(gate, chans, reduction),
            "shortcut_norm": block == "mcdo" and bottleneck,  # upstream's; preact only
        }
        rates = drop_path_rates(drop_path_rate, sum(num_blocks))
        layers = [make_stem(in_chans, widths[0], stem, norm=not preact)]
        channels = [widths[0]]
        for n, (width, count) in enumerate(zip(widths, num_blocks, strict=True)):
            drops = [rates.pop(0) for _ in range(count)]
            layers.append(_stage(channels[-1], width, 2 if n else 1, drops, **keywords))
            channels.append(layers[-1][-1].out_channels)
        first = 4 if stem else 1
        self._add_stages(layers, channels, [first, *(first << n for n in range(4))])
        self._add_smoothing(
            smoothing,
            (1, 1, 1, 0) if preact or gate else (1, 1, 1, 1),
            kind=sblock,
            temp=temp,
            sfilter=sfilter,
            pad_mode=pad_mode,
        )
        kind = cblock or ("bngap" if preact else "gap")
        features = channels[-1] * 49 if kind == "mlp" else channels[-1]
        self._add_classifier([nn.AdaptiveAvgPool2d(7)], features, kind, temp=clip_temp)


def _check_stages(num_blocks: Sequence[int], widths: Sequence[int]) -> None:
    if len(num_blocks) != 4 or len(widths) != 4 or min(num_blocks) < 1:
        raise ValueError(
            "num_blocks and widths must be four positive numbers each, one per stage; "
            f"got num_blocks={tuple(num_blocks)}, widths={tuple(widths)}"
        )


def _stage(
    chans: int, width: int, stride: int, drop_path: Sequence[float], **keywords: Any
) -> nn.Sequential:
    """As many residual blocks as drop-path rates; the first one has the stride."""
    stage = nn.Sequential()
    for rate in drop_path:
        stage.append(ResidualBlock(chans, width, stride, drop_path=rate, **keywords))
        chans, stride = stage[-1].out_channels, 1
    return stage


def make_stem(in_chans: int, width: int, stem: bool, norm: bool) -> nn.Sequential:
    """layer0: 7x7 stride 2 and a max pool, or 3x3; BN and ReLU after the convolution if `norm`."""
    layer = nn.Sequential(conv_nxn(in_chans, width, 7 if stem else 3, 2 if stem else 1))
    if norm:
        layer.extend((nn.BatchNorm2d(width), nn.ReLU()))
    if stem:
        layer.append(nn.MaxPool2d(3, stride=2, padding=1))
    return layer
