"""What code says differently for an exported graph, each with the reason that pays for it.

Eager code is written first and for people. A graph differs where sizes are symbols (one graph must
serve every size), where constants fold, and where one operator without a kernel on the GPU would
move tensors to the CPU and back. Every such branch of the layers is one of these functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import SymInt, Tensor, nn

from .linear_maps import is_plain


def is_exporting() -> bool:
    """Whether `torch.export` records this call: sizes may be symbols, parameters are constants."""
    return torch.compiler.is_exporting()


def is_recorded() -> bool:
    """Whether a program is made of this call, by any compiler or trace: tensors hold no values.

    Nothing may then be compared, kept for the next call, or written into.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def is_symbolic(*sides: int | SymInt) -> bool:
    """Whether a size stands for every size: a branch on it would fix the graph to one of them."""
    return any(isinstance(side, SymInt) for side in sides)


def ceil_div(a: int, b: int) -> int:
    """``ceil(a / b)`` for a >= 0 and b > 0.

    Not ``-(-a // b)``: torch.onnx writes a symbolic ``//`` as ONNX Div, which truncates where
    Python floors, so that this idiom becomes floor(a / b) without a word (docs/export.md).
    """
    return (a + b - 1) // b


def crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The upper left part of a map. Shape: (B, C, H, W) -> (B, C, *size).

    Symbols take a padding by negative amounts: a slice to a symbolic end is proved against the size
    of the example, which fixes both.
    """
    height, width = x.shape[2], x.shape[3]
    if is_symbolic(*size, height, width):
        return F.pad(x, (0, size[1] - width, 0, size[0] - height))
    return x if (height, width) == size else x[:, :, : size[0], : size[1]]


def roll(x: Tensor, shift: int) -> Tensor:
    """A map moved up and left by `shift` pixels, round the borders. Shape: (B, C, H, W) -> same.

    A graph takes it as slices put together: torch's own decomposition of roll guards the size and
    leaves 8 Mod nodes of shape arithmetic in every layer.
    """
    if not is_exporting():
        return x.roll((-shift, -shift), (2, 3))
    x = torch.cat((x[:, :, shift:], x[:, :, :shift]), dim=2)
    return torch.cat((x[..., shift:], x[..., :shift]), dim=3)


def prepend_token(token: Tensor, x: Tensor) -> Tensor:
    """A learned token in front of all others. Shape: (1, 1, C), (B, N, C) -> (B, N + 1, C).

    `expand` to the batch is shape arithmetic: in the graph its Concat is the one node that ONNX
    Runtime's CUDA provider leaves to the CPU. A sum with zeros is not, and no constant as large as
    the tokens.
    """
    if is_exporting():
        return torch.cat((token + x[:, :1] * 0, x), dim=1)
    return torch.cat((token.expand(x.shape[0], -1, -1), x), dim=1)


def parts_of(x: Tensor, layer: nn.Module, parts: int) -> Sequence[Tensor]:
    """`layer(x)` in equal parts along the width, of a plain linear layer a product each.

    In a graph the slices of the weights are constants; slices of the output would run every time.
    """
    if not is_plain(layer):
        return layer(x).chunk(parts, dim=-1)
    size = layer.out_features // parts
    spans = [slice(i * size, (i + 1) * size) for i in range(parts)]
    bias = layer.bias
    return [F.linear(x, layer.weight[s], None if bias is None else bias[s]) for s in spans]
