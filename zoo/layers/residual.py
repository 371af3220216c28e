"""The residual block of all ResNets here: post- or pre-activation, basic or bottleneck, one class.

He et al., *Deep Residual Learning*, arXiv:1512.03385 (post-activation) and *Identity Mappings in
Deep Residual Networks*, arXiv:1603.05027 (pre-activation); groups after Xie et al.,
arXiv:1611.05431; width after Zagoruyko & Komodakis, arXiv:1605.07146. State-dict keys follow
how-do-vits-work `models/{resnet,preresnet,seresnet,cbamresnet}_{dnn,mcdo}_block.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


class ConvUnit(nn.Module):
    """conv-ReLU-dropout, conv-BN-ReLU-dropout or BN-ReLU-conv-dropout; the convolution has no bias.

    Args:
        in_channels, out_channels, kernel_size, stride, padding: of the convolution.
        norm: "none", "post" (after the convolution) or "pre" (BN and ReLU before it).
        dropout: rate of the MC dropout on the output.
    Shape: (B, in_channels, H, W) -> (B, out_channels, H', W').
    Raises: ValueError for another `norm`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        norm: str = "post",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if norm not in ("none", "post", "pre"):
            raise ValueError(f"norm must be 'none', 'post' or 'pre'; got {norm!r}")
        self.preact = norm == "pre"
        if self.preact:
            self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False
        )
        if norm != "pre":
            self.bn = nn.BatchNorm2d(out_channels) if norm == "post" else nn.Identity()
        self.dropout = MCDropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(F.relu(self.bn(x))) if self.preact else F.relu(self.bn(self.conv(x)))
        return self.dropout(y)


class DropPath(nn.Module):
    """Zero the whole branch of a sample with probability `drop_prob`; divide survivors by 1 - p.

    The identity in eval mode. Shape: any (B, ...) -> the same.
    Raises: ValueError unless 0 <= drop_prob < 1.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= drop_prob < 1.0:
            raise ValueError(f"drop_prob must be in [0, 1); got {drop_prob}")
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1.0 - self.drop_prob
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep)

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob}"


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Linear schedule from 0 at the first block to `rate` at the last; one block gets 0."""
    return [rate * i / (depth - 1) if depth > 1 else 0.0 for i in range(depth)]


def truncated_normal_(tensor: Tensor, std: float = 0.02) -> Tensor:
    """Normal of deviation `std`, cut at +-2 (absolute), in place."""
    return torch.nn.init.trunc_normal_(tensor, std=std, a=-2.0, b=2.0)


class ChannelGate(nn.Module):
    """x * sigmoid(mean over poolings p of W2 relu(W1 p(x))).

    Args: channels C; reduction: W1 maps C -> C // reduction; max_pool: p runs over average and
        maximum (CBAM) instead of the average alone (squeeze-and-excitation).
    Shape: (B, C, H, W) -> the same. Raises: ValueError if C // reduction is 0.
    """

    def __init__(self, channels: int, reduction: int = 16, max_pool: bool = True) -> None:
        super().__init__()
        if channels // reduction < 1:
            raise ValueError(
                f"reduction must be at most the number of channels; got reduction={reduction} "
                f"for {channels} channels"
            )
        self.max_pool = max_pool
        self.ff = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(),
            nn.Linear(channels // reduction, channels, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits = self.ff(x.mean((2, 3)))  # (B, C)
        if self.max_pool:
            logits = (logits + self.ff(x.amax((2, 3)))) / 2
        return x * logits.sigmoid()[:, :, None, None]


class SpatialGate(nn.Module):
    """x * sigmoid(BN(conv7x7([mean over channels, maximum over channels]))).

    Args: max_pool: False leaves the maximum out.
    Shape: (B, C, H, W) -> the same.
    """

    def __init__(self, max_pool: bool = True) -> None:
        super().__init__()
        self.max_pool = max_pool
        maps = 2 if max_pool else 1
        self.ff = nn.Sequential(
            nn.Conv2d(maps, 1, 7, padding=3, bias=False),
            nn.BatchNorm2d(1),
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = x.mean(1, keepdim=True)  # (B, 1, H, W)
        if self.max_pool:
            maps = torch.cat((maps, x.amax(1, keepdim=True)), dim=1)
        return x * self.ff(maps).sigmoid()


def make_gate(kind: str, channels: int, reduction: int = 16) -> nn.Module:
    """The gate of a residual branch: "se" or "cbam". Raises: ValueError for another kind."""
    if kind == "se":
        return ChannelGate(channels, reduction, max_pool=False)
    if kind == "cbam":
        return nn.Sequential(ChannelGate(channels, reduction), SpatialGate())
    raise ValueError(f"gate must be 'se' or 'cbam'; got {kind!r}")
