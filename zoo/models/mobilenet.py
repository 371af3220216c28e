"""MobileNet v2.

Sandler, Howard, Zhu, Zhmoginov, Chen, *MobileNetV2: Inverted Residuals and Linear Bottlenecks*,
CVPR 2018, arXiv:1801.04381. Keys, numbers and initialisation follow how-do-vits-work
`models/mobilenet.py` (arXiv:2202.06709), which has neither an MC-dropout nor a smoothing form of
it.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from ..layers.heads import ClassifierBlock
from ..layers.residual import conv_nxn
from ._base import ImageClassifier

# (expansion, channels, blocks, stride) of the groups; stem=False sets the 24-channel group's to 1
_GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def round_width(width: float, unit: int = 8) -> int:
    """The nearest multiple of `unit`, at least one of them, and never below 90 % of `width`."""
    rounded = max(unit, int(width + unit / 2) // unit * unit)
    return rounded + unit if rounded < 0.9 * width else rounded


def conv_unit(
    chans: int, out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    """Convolution, BatchNorm and, with `act`, ReLU6."""
    unit = nn.Sequential(conv_nxn(chans, out, kernel, stride, groups), nn.BatchNorm2d(out))
    return unit.append(nn.ReLU6()) if act else unit


class InvertedResidual(nn.Module):
    """[1x1 expansion], depth-wise 3x3, linear 1x1 projection; plus x if the shape stays.

    Args:
        dim_in, dim_out, stride: channels and stride.
        expand_ratio: the inner width is round(dim_in * expand_ratio).
        expand: whether the expansion convolution exists; None means expand_ratio != 1.
    Shape: (B, dim_in, H, W) -> (B, dim_out, ceil(H / stride), ceil(W / stride)).
    Raises: ValueError for expand=False with another ratio than 1.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        stride: int = 1,
        expand_ratio: float = 6,
        expand: bool | None = None,
    ) -> None:
        super().__init__()
        expand = expand_ratio != 1 if expand is None else expand
        hidden = round(dim_in * expand_ratio)
        if not expand and hidden != dim_in:
            raise ValueError(f"a block without expansion has expand_ratio 1; got {expand_ratio}")
        self.residual = stride == 1 and dim_in == dim_out
        units = [conv_unit(dim_in, hidden, 1)] if expand else []
        units.append(conv_unit(hidden, hidden, 3, stride, groups=hidden))
        units.append(conv_unit(hidden, dim_out, 1, act=False))
        for i, unit in enumerate(units):
            self.add_module(f"conv{i + 1}", unit)
        self.units = len(units)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        if self.units == 3:
            y = self.conv3(y)
        return x + y if self.residual else y


class MobileNetV2(ImageClassifier):
    """A convolution, 17 inverted residuals, a 1x1 convolution, a classifier block.

    Args:
        in_chans, num_classes: as in timm; num_classes=0 returns the embedding.
        width_mult: factor on all widths, rounded to multiples of 8.
        stem: True for ImageNet; False keeps the stride 1 in the first convolution and the
            24-channel group.
        cblock: kind of classifier block (`ClassifierBlock`).
        block, smoothing: "dnn" and False only; the original has no other form of this network.
    Shape: (B, in_chans, H, W) -> (B, num_classes), any H and W.
    Raises: ValueError for another block kind, smoothing, or an unknown classifier kind.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        stem: bool = True,
        cblock: str = "gap",
        block: str = "dnn",
        smoothing: bool = False,
    ) -> None:
        super().__init__()
        if block != "dnn" or smoothing:
            raise ValueError(
                "MobileNet has the block kind 'dnn' only, without smoothing; got "
                f"block={block!r}, smoothing={smoothing!r}; the ResNets and VGGs have both"
            )
        self.num_classes = num_classes
        self.in_chans = in_chans
        unit = 4 if width_mult < 0.1 else 8
        width = round_width(32 * width_mult, unit)
        first = 2 if stem else 1
        layers: list[nn.Module] = [conv_unit(in_chans, width, 3, first)]
        info = [{"module": "features.0", "num_chs": width, "reduction": first}]
        for ratio, channels, count, stride in _GROUPS:
            out = round_width(channels * width_mult, unit)
            stride = first if channels == 24 else stride
            for i in range(count):
                layers.append(InvertedResidual(width, out, 1 if i else stride, ratio))
                width = out
            reduction = info[-1]["reduction"] * stride
            name = f"features.{len(layers) - 1}"
            info.append({"module": name, "num_chs": width, "reduction": reduction})
        last = round_width(1280 * width_mult, unit) if width_mult > 1 else 1280
        layers.append(conv_unit(width, last, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = ClassifierBlock(last, num_classes, cblock)
        self.num_features = self.classifier.num_features
        self.feature_info = info
        for module in self.modules():
            _init(module)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> map (B, C, h, w)."""
        return self.features(self._prepared(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map (B, C, h, w) -> logits (B, num_classes); the embedding if `pre_logits`."""
        return self.classifier.pre_logits(x) if pre_logits else self.classifier(x)

    def get_classifier(self) -> nn.Module:
        return getattr(self.classifier, self.classifier.last)

    def _set_classifier(self, classifier: nn.Module) -> None:
        self.classifier.add_module(self.classifier.last, classifier)


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):  # the fan ignores groups, as upstream
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
