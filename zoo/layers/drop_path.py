"""Stochastic depth per sample (Huang et al. 2016, arXiv:1603.09382)."""

import torch
from torch import Tensor, nn


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
