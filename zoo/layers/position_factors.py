"""The softmax over relative positions in its two factors, and what it does to values.

d'Ascoli et al. 2021, arXiv:2103.10697: the positional logit of a head is
w0*dx + w1*dy + w2*(dx^2 + dy^2) + b, with (dx, dy) from the query to the key. It is a function of
dx plus a function of dy, so on a full grid its softmax is an outer product, P = Py (x) Px, with

    Px[x, x'] = softmax_x'(w0*dx + w2*dx^2)        Py[y, y'] = softmax_y'(w1*dy + w2*dy^2)

and P v is two small products, over x' and over y': O(N (H + W)) instead of O(N^2), and exact.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

from .exporting import is_exporting, is_recorded

_UNSEEN = 1e8  # times the smallest normal number: 1e-30 in float32


def factors(
    weight: Tensor,
    bias: Tensor,
    grid: tuple[int, int],
    units: tuple[float, float],
    normalise: Callable[[Tensor, int], Tensor],
) -> tuple[Tensor, Tensor]:
    """`normalise(logits, key axis)` of rows and of columns; of both at once on a square grid.

    Args:
        weight, bias: (nh, 3) for (dx, dy, dx^2 + dy^2), and (nh,), which every softmax cancels.
        grid: (H, W) in tokens. units: lengths of a step in y and in x.
    Returns: (nh, H, H) and (nh, W, W), query then key, in at least float32.
    """
    if weight.dtype.itemsize < 4:
        weight, bias = weight.float(), bias.float()
    weight = weight.t()[..., None, None]  # (3, nh, 1, 1)
    if not is_exporting() and grid[0] == grid[1] and units[0] == units[1]:
        both = _axis(weight, weight[:2], bias, grid[0], units[0], normalise)
        columns, rows = both.unbind(0)
        return rows, columns
    rows, columns = (
        _axis(weight, weight[1 - axis], bias, grid[axis], units[axis], normalise) for axis in (0, 1)
    )
    return rows, columns


def _axis(
    weight: Tensor,
    linear: Tensor,
    bias: Tensor,
    size: int,
    unit: float,
    normalise: Callable[[Tensor, int], Tensor],
) -> Tensor:
    """(..., nh, 1, 1) linear terms -> (..., nh, size, size), query then key.

    The logits are built key first, since a softmax over an outer axis takes whole vectors at once.
    """
    index = torch.arange(size, device=weight.device, dtype=weight.dtype)
    offset = index[:, None] - index  # (key, query)
    if unit != 1.0:
        offset = offset * unit
    logits = torch.addcmul(linear, weight[2], offset)
    logits = torch.addcmul(bias[:, None, None], logits, offset)  # backward reaches the bias
    return normalise(logits, -2).mT


def probabilities(logits: Tensor, dim: int) -> Tensor:
    """Softmax with those numbers set to 0 that no sum can show: subnormal ones, of which a local
    head has many, make a product on the CPU up to ten times slower.
    """
    weights = logits.softmax(dim)
    return torch.threshold(weights, torch.finfo(weights.dtype).tiny * _UNSEEN, 0.0)


class LastFactors:
    """The factors of the last call, so that inference builds them once per weights and grid.

    At 224 px building them costs a tenth of the layer. The weights they were built of are kept
    beside them and compared by value: whatever changed the parameter (an optimizer, loading, `.to`,
    an edit of `.data`), the answer is right. Nothing is kept or used where gradients are recorded,
    where a program is traced or transformed, or away from the CPU, where comparing means waiting.
    """

    def __init__(self) -> None:
        self._last: tuple[Hashable, Tensor, tuple[Tensor, Tensor]] | None = None

    def get(
        self, weight: Tensor, key: Hashable, build: Callable[[], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """`build()`, or what it returned when `weight` and `key` were the same."""
        if (
            torch.is_grad_enabled()
            or is_recorded()
            or type(weight) is not nn.Parameter
            or not weight.is_cpu
        ):
            return build()
        last = self._last  # read once: another thread may replace it
        if last is not None and last[0] == key and torch.equal(last[1], weight):
            return last[2]
        built = build()
        if type(built[0]) is Tensor:
            self._last = key, weight.detach().clone(), built
        return built


def attend(rows: Tensor, columns: Tensor, v: Tensor) -> Tensor:
    """(Py (x) Px) v per head. Shape: (nh, H, H), (nh, W, W), (B, N, nh * hd) -> (B, nh, H, W, hd).

    The contracted axis is brought to the front each time: one matrix product per head and axis.
    """
    batch, heads, height, width = v.shape[0], rows.shape[0], rows.shape[1], columns.shape[1]
    hd = v.shape[2] // heads  # no size is left to view: an empty batch does not tell it
    x = v.view(batch, height, width, heads, hd).permute(3, 2, 0, 1, 4)  # (nh, W', B, H', hd)
    x = x.reshape(heads, width, batch * height * hd)
    x = torch.bmm(columns, x).view(heads, width, batch, height, hd)
    x = x.permute(0, 3, 2, 1, 4).reshape(heads, height, batch * width * hd)  # (nh, H', B, W, hd)
    x = torch.bmm(rows, x).view(heads, height, batch, width, hd)
    return x.permute(2, 0, 1, 3, 4)


def attend_as_graph(rows: Tensor, columns: Tensor, v: Tensor) -> Tensor:
    """The same as tokens, (B, N, nh * hd), with as few nodes and copies as a graph needs.

    Runtimes broadcast a matrix over a batch of products without copying it; eager PyTorch does not.
    """
    batch, heads, height, width = v.shape[0], rows.shape[0], rows.shape[1], columns.shape[1]
    hd = v.shape[2] // heads
    x = v.reshape(batch, height, width, heads, hd).permute(0, 3, 1, 2, 4)  # (B, nh, H', W', hd)
    x = (columns[:, None] @ x).reshape(batch, heads, height, width * hd)
    x = (rows @ x).reshape(batch, heads, height * width, hd)
    return x.transpose(1, 2).flatten(2)


def joint(rows: Tensor, columns: Tensor) -> Tensor:
    """The dense P = Py (x) Px. Shape: (nh, H, H), (nh, W, W) -> (nh, N, N)."""
    tokens = rows.shape[1] * columns.shape[1]
    dense = rows[:, :, None, :, None] * columns[:, None, :, None, :]  # (nh, H, W, H, W)
    return dense.reshape(-1, tokens, tokens)
