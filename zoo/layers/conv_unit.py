"""One convolution with its norm, activation and dropout, as AlexNet and the VGGs order them.

State-dict keys and places of the dropout follow how-do-vits-work
`models/{alexnet,vggnet,prevggnet}_*_block.py`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .mc_dropout import MCDropout


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
