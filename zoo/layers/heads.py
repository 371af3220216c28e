"""Classifier blocks: from the last map to logits.

Keys follow how-do-vits-work `models/classifier_block.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError


def _clip(x: Tensor, t: float) -> Tensor:
    return t * ((x.mean((2, 3)) / t).sigmoid() - 0.5)


def _median(x: Tensor) -> Tensor:
    """The int(n/2)-th largest of n values per channel, upstream's median.

    (B, C, H, W) -> (B, C).
    """
    values = x.flatten(2)
    k = values.shape[2] // 2
    if k < 1:
        raise InputError(
            "the 'gmedp' head needs a map of at least two pixels; the image is too small"
        )
    return values.topk(k, dim=2).values[:, :, -1]


_POOLS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "gap": lambda x, t: x.mean((2, 3)),
    "bngap": lambda x, t: F.relu(x).mean((2, 3)),
    "gmaxp": lambda x, t: x.amax((2, 3)),
    "gmedp": lambda x, t: _median(x),
    "gapclip": _clip,
    "gapmlp": lambda x, t: x.mean((2, 3)),
    "mlp": lambda x, t: x.flatten(1),  # channel, row, column
}
CLASSIFIER_KINDS = tuple(_POOLS)


class ClassifierBlock(nn.Module):
    """Pool a map, then one linear layer (`dense`) or three (`dense1` .. `dense3`).

    Args:
        in_features: channels of the map; for "mlp" channels * height * width.
        num_classes: width of the logits; 0 leaves the last layer out.
        kind: gap mean; bngap mean of relu(BN(x)); gmaxp maximum; gmedp median (see `_median`);
            gapclip t (sigmoid(mean/t) - 1/2); mlp flatten, then linear, ReLU, dropout twice; gapmlp
            mean, then the same.
        temp: t of gapclip.
        hidden_dim: width of the two hidden layers of mlp and gapmlp.
    Shape: (B, C, H, W) -> (B, num_classes).
    Raises: ValueError for an unknown kind; in `forward` for maps that do not fit.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        kind: str = "gap",
        temp: float = 2.0,
        hidden_dim: int = 4096,
    ) -> None:
        super().__init__()
        if kind not in _POOLS:
            raise ValueError(f"cblock must be one of {', '.join(_POOLS)}; got {kind!r}")
        self.kind = kind
        self.temp = temp
        self.in_features = in_features
        self.layers = 3 if kind in ("mlp", "gapmlp") else 1
        self.num_features = hidden_dim if self.layers == 3 else in_features
        self.last = "dense3" if self.layers == 3 else "dense"
        self.bn = nn.BatchNorm2d(in_features) if kind == "bngap" else nn.Identity()
        if self.layers == 3:
            self.dense1 = nn.Linear(in_features, hidden_dim)
            self.dense2 = nn.Linear(hidden_dim, hidden_dim)
            self.dropout = nn.Dropout(0.5)
        final = nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()
        self.add_module(self.last, final)

    def pre_logits(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> what the last layer sees, (B, num_features)."""
        x = _POOLS[self.kind](self.bn(x), self.temp)
        if x.shape[1] != self.in_features:
            raise InputError(
                f"the {self.kind!r} head takes {self.in_features} features; this image makes "
                f"{x.shape[1]}"
            )
        if self.layers == 3:
            x = self.dropout(F.relu(self.dense1(x)))
            x = self.dropout(F.relu(self.dense2(x)))
        return x

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, self.last)(self.pre_logits(x))
