"""Gates of residual branches: squeeze-and-excitation, and CBAM's channel and spatial attention.

Hu, Shen, Sun, *Squeeze-and-Excitation Networks*, CVPR 2018, arXiv:1709.01507; Woo, Park, Lee,
Kweon, *CBAM*, ECCV 2018, arXiv:1807.06521. Keys and numbers follow how-do-vits-work
`models/gates.py`, which averages the two logits of CBAM's channel gate where the paper adds them.
"""

import torch
from torch import Tensor, nn


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
