"""Smoothing blocks: squash, rectify, blur. Blurs of feature maps behave like ensembles.

Park & Kim, *Blurs Behave Like Ensembles*, ICML 2022, arXiv:2105.12639; how-do-vits-work
`models/smoothing_block.py` and `models/layers.py`. The default blur, filter (1, 1) with zero
padding, is a 2 x 2 average on a map padded by one on every side, so **the map grows by one**, as
upstream. Where we differ: one class with the kind as a keyword, and "bn_blur", which upstream
cannot build, works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .exporting import ceil_div

_Squash = Callable[[Tensor, float], Tensor]


def _tanh(x: Tensor, t: float) -> Tensor:
    return F.relu(t * torch.tanh(x / t))


def _sigmoid(x: Tensor, t: float) -> Tensor:
    return F.relu(4 * t * (torch.sigmoid(x / t) - 0.5))


def _softmax(x: Tensor, t: float) -> Tensor:
    return F.relu(t * torch.softmax(x / t, dim=1))  # over channels


# kind without "bn_" and "_blur" -> (function, default temperature)
_SQUASH: dict[str, tuple[_Squash, float]] = {
    "tanh": (_tanh, 10.0),
    "sigmoid": (_sigmoid, 10.0),
    "softmax": (_softmax, 10.0),
    "relu": (lambda x, t: x.clamp(0.0, t), 6.0),
    "scaling": (lambda x, t: x / t, 5.0),
    "identity": (lambda x, t: x, 1.0),
    "rectify": (lambda x, t: F.relu(x), 1.0),
}
# kind -> (squash, BatchNorm first, blur last)
_KINDS: dict[str, tuple[str, bool, bool]] = {
    "tanh_blur": ("tanh", False, True),
    "bn_tanh_blur": ("tanh", True, True),
    "sigmoid_blur": ("sigmoid", False, True),
    "softmax_blur": ("softmax", False, True),
    "relu_blur": ("relu", False, True),
    "scaling_blur": ("scaling", False, True),
    "blur": ("identity", False, True),
    "bn_blur": ("rectify", True, True),
    "tanh": ("tanh", False, False),
    "scaling": ("scaling", False, False),
    "relu": ("relu", False, False),
}
SMOOTHING_KINDS = tuple(_KINDS)


class SamePad(nn.Module):
    """Pad so that a filter keeps the map: floor((n-1)/2) left and above, the rest right and below.

    Args: filter_size n, its side; pad_mode: as `torch.nn.functional.pad` ("zero" is "constant").
    Shape: (B, C, H, W) -> (B, C, H + n - 1, W + n - 1).
    """

    def __init__(self, filter_size: int, pad_mode: str = "constant") -> None:
        super().__init__()
        before = (filter_size - 1) // 2
        after = filter_size - 1 - before
        self.padding = (before, after, before, after)
        self.pad_mode = "constant" if pad_mode == "zero" else pad_mode

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.padding, mode=self.pad_mode)


class Blur(nn.Module):
    """Every channel filtered by f f^T / sum(f f^T), a frozen parameter, keeping the map.

    Args: channels C; sfilter: f, n numbers; pad_mode: as `SamePad`.
    Shape: (B, C, H, W) -> the same.
    """

    def __init__(
        self, channels: int, sfilter: Sequence[float] = (1, 1), pad_mode: str = "replicate"
    ) -> None:
        super().__init__()
        row = torch.tensor(tuple(sfilter), dtype=torch.float32)
        kernel = row[:, None] * row[None, :]
        kernel = (kernel / kernel.sum()).expand(channels, 1, -1, -1)  # (C, 1, n, n)
        self.filter = nn.Parameter(kernel.clone(), requires_grad=False)
        self.pad = SamePad(len(row), pad_mode)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.pad(x), self.filter, groups=x.shape[1])


def make_blur(
    channels: int, sfilter: Sequence[float] = (1, 1), pad_mode: str = "constant"
) -> nn.Module:
    """The blur of upstream's networks: `Blur`, or the 2 x 2 average that grows the map by one."""
    if tuple(sfilter) == (1, 1) and pad_mode in ("constant", "zero"):
        return nn.AvgPool2d(2, stride=1, padding=1)
    return Blur(channels, sfilter, pad_mode)


class SmoothingBlock(nn.Module):
    """[BatchNorm], a squashing function of temperature t, and a blur.

    Args:
        channels: channels in and out.
        kind: tanh_blur relu(t tanh(x/t)); sigmoid_blur relu(4t (sigmoid(x/t) - 1/2)); softmax_blur
            t softmax over channels of x/t; relu_blur clamp(x, 0, t); scaling_blur x/t; blur
            nothing; bn_tanh_blur and bn_blur (ReLU) behind a BatchNorm; tanh, scaling, relu without
            blur.
        temp: t; None means 10, for relu 6, for scaling 5.
        sfilter, pad_mode: of the blur (`make_blur`).
    Shape: (B, C, H, W) -> (B, C, H + 1, W + 1) with the default blur, otherwise the same.
    Raises: ValueError for an unknown kind or a temperature that is not positive.
    """

    def __init__(
        self,
        channels: int,
        kind: str = "tanh_blur",
        temp: float | None = None,
        sfilter: Sequence[float] = (1, 1),
        pad_mode: str = "constant",
    ) -> None:
        super().__init__()
        if kind not in _KINDS:
            raise ValueError(f"sblock must be one of {', '.join(_KINDS)}; got {kind!r}")
        self.squash, norm, blur = _KINDS[kind]
        self.kind = kind
        self.temp = _SQUASH[self.squash][1] if temp is None else temp
        if self.temp <= 0:
            raise ValueError(f"temp must be positive; got {temp}")
        self.bn = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.blur = make_blur(channels, sfilter, pad_mode) if blur else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        squash, _ = _SQUASH[self.squash]
        return self.blur(squash(self.bn(x), self.temp))

    def extra_repr(self) -> str:
        return f"kind={self.kind}, temp={self.temp}"


class Downsample(nn.Module):
    """Nearest-neighbour thinning: pixel i of the output is pixel floor(i * H / H') of the input.

    Args: strides: one int or (vertical, horizontal).
    Shape: (B, C, H, W) -> (B, C, ceil(H / s0), ceil(W / s1)).
    """

    def __init__(self, strides: int | tuple[int, int] = (2, 2)) -> None:
        super().__init__()
        self.strides = (strides, strides) if isinstance(strides, int) else tuple(strides)

    def forward(self, x: Tensor) -> Tensor:
        size = tuple(ceil_div(side, s) for side, s in zip(x.shape[-2:], self.strides, strict=True))
        return F.interpolate(x, size=size, mode="nearest")
