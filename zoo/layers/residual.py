"""The residual block of all ResNets here: post- or pre-activation, basic or bottleneck, one class.

He et al., *Deep Residual Learning*, arXiv:1512.03385 (post-activation) and *Identity Mappings in
Deep Residual Networks*, arXiv:1603.05027 (pre-activation); groups after Xie et al.,
arXiv:1611.05431; width after Zagoruyko & Komodakis, arXiv:1605.07146. State-dict keys follow
how-do-vits-work `models/{resnet,preresnet,seresnet,cbamresnet}_{dnn,mcdo}_block.py`.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from .drop_path import DropPath
from .mc_dropout import MCDropout

EXPANSION = 4  # of bottlenecks: channels out per inner channel


def conv_nxn(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution without bias whose padding keeps the grid (odd kernels)."""
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=groups,
        bias=False,
    )


class ResidualBlock(nn.Module):
    """out = skip + gate(branch), two 3x3 convolutions or 1x1, 3x3, 1x1 in the branch.

    Post-activation: conv-BN-ReLU ..., conv-BN in the branch, 1x1 conv-BN in the skip where the
    shape changes, ReLU after the sum. Pre-activation: a = ReLU(BN(x)); conv(a), BN-ReLU-conv ... in
    the branch, skip is a 1x1 conv of a where the shape changes and x otherwise, nothing after the
    sum.

    Args:
        in_channels: channels in.
        channels: width of the stage; the output has 4 times as many with `bottleneck`.
        stride: of the first 3x3 convolution (basic) or the only one (bottleneck), and of the skip.
        bottleneck, preact: the form.
        groups, width_per_group: the inner width is int(channels * width_per_group / 64) * groups,
            in `groups` groups; bottlenecks only.
        drop_path: stochastic depth of the branch.
        dropout: rate of the MC dropout inside the branch, after conv1 (basic) or conv2
            (bottleneck).
        gate: makes a gate from its number of channels; it acts on the branch before the sum.
        shortcut_norm: BN in the skip of a pre-activation block too, as upstream's MC-dropout
            bottlenecks.
    Shape: (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    Raises: ValueError for groups or another width in a basic block.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        bottleneck: bool = False,
        preact: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        gate: Callable[[int], nn.Module] | None = None,
        shortcut_norm: bool = False,
    ) -> None:
        super().__init__()
        if not bottleneck and (groups, width_per_group) != (1, 64):
            raise ValueError(
                "a basic block takes groups=1 and width_per_group=64 only; "
                f"got groups={groups}, width_per_group={width_per_group}"
            )
        self.preact = preact
        self.bottleneck = bottleneck
        self.out_channels = channels * EXPANSION if bottleneck else channels
        width = channels * width_per_group // 64 * groups
        shapes = [(in_channels, channels, 3, stride, 1), (channels, channels, 3, 1, 1)]
        if bottleneck:
            shapes = [(in_channels, width, 1, 1, 1), (width, width, 3, stride, groups)]
            shapes.append((width, self.out_channels, 1, 1, 1))
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != self.out_channels:
            self.shortcut.append(conv_nxn(in_channels, self.out_channels, 1, stride))
            if shortcut_norm or not preact:
                self.shortcut.append(nn.BatchNorm2d(self.out_channels))
        if preact:
            self.bn = nn.BatchNorm2d(in_channels)
        for i, shape in enumerate(shapes):
            self.add_module(f"conv{i + 1}", _unit(shape, preact, i == 0, i == len(shapes) - 1))
        self.dropout = MCDropout(dropout)
        self.gate = gate(self.out_channels) if gate is not None else nn.Identity()
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn(x)) if self.preact else x
        skip = self.shortcut(y if len(self.shortcut) else x)
        y = self.conv1(y)
        if self.bottleneck:
            y = self.conv3(self.dropout(self.conv2(y)))
        else:
            y = self.conv2(self.dropout(y))
        y = skip + self.drop_path(self.gate(y))
        return y if self.preact else F.relu(y)


def _unit(shape: tuple[int, ...], preact: bool, first: bool, last: bool) -> nn.Module:
    conv = conv_nxn(*shape)
    if preact:
        return conv if first else nn.Sequential(nn.BatchNorm2d(shape[0]), nn.ReLU(), conv)
    unit = nn.Sequential(conv, nn.BatchNorm2d(shape[1]))
    return unit if last else unit.append(nn.ReLU())
