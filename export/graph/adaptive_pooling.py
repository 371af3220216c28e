"""Adaptive average pooling of maps whose size is not known yet, as two products.

torch's own decomposition fixes whether the side of the map divides: what it captures at one size is
another function at others. The windows are those of `torch.nn.AdaptiveAvgPool2d`: window i of n
over a side s goes from floor(i s / n) to ceil((i + 1) s / n).
"""

import torch
from torch import Tensor, nn


class WindowMeans(nn.AdaptiveAvgPool2d):
    """The same function as its base class, for sides that are symbols.

    Shape: (B, C, H, W) -> (B, C, *output_size).
    """

    def forward(self, input: Tensor) -> Tensor:
        size = self.output_size
        rows, columns = size if isinstance(size, tuple) else (size, size)
        across = _shares(input, 3, columns).transpose(0, 1)  # (W, columns)
        return _shares(input, 2, rows) @ (input @ across)


def _shares(x: Tensor, axis: int, count: int | None) -> Tensor:
    """Share of every row (or column) of a map in every window. Shape: (count, side)."""
    side = x.shape[axis]
    if count is None:  # as many windows as rows
        return torch.eye(side, dtype=x.dtype)
    window = torch.arange(count).unsqueeze(1)
    first = window * side // count
    end = ((window + 1) * side + count - 1) // count
    place = torch.arange(side).unsqueeze(0)
    inside = (place >= first) & (place < end)
    return inside.to(x.dtype) / (end - first).to(x.dtype)


def pool_any_size(model: nn.Module) -> None:
    """Put `WindowMeans` in place of adaptive pools of more than one window; changes the model."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.AdaptiveAvgPool2d and child.output_size not in (1, (1, 1)):
                setattr(parent, name, WindowMeans(child.output_size))
