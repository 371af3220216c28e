"""The matrices by which a layer weighs positions, taken from the layer as it runs.

What multiplies the values counts: fused or written out, with biases, rotations, masks and mixed
heads, whatever the class. No formula of a library is written down again here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_PRODUCTS = ("matmul", "__matmul__", "bmm", "baddbmm", "einsum")
_OFF = 5e-3  # how far a sum of a row may be from 1, in float16 too


class _Weighing(TorchFunctionMode):
    """Keeps what multiplies something and has rows of shares: not negative, sum 1."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "multi_head_attention_forward":
            kwargs = {**kwargs, "need_weights": True, "average_attn_weights": False}
            answer, weights = func(*args, **kwargs)
            self.found.append(weights)
            return answer, weights
        if name == "scaled_dot_product_attention":
            self.found.append(_of_fused(func, *args, **kwargs))
        elif name in _PRODUCTS:
            self.found += [x for x in _factors(name, *args) if x.ndim > 2 and _are_shares(x)]
        return func(*args, **kwargs)


def _of_fused(
    fused: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, *rest: Any, **more: Any
) -> Tensor:
    """Attention to the identity is the matrix itself."""
    keys = key.shape[-2]
    identity = torch.eye(keys, dtype=value.dtype, device=value.device)
    return fused(query, key, identity.expand(*value.shape[:-2], keys, keys), *rest, **more)


def _factors(name: str, *args: Any) -> list[Tensor]:
    """Those of the factors whose last axis is summed over, as (..., queries, keys)."""
    left: Tensor
    right: Tensor
    left, right = args[-2:]
    if name != "einsum":
        return [left, right.mT] if right.ndim > 2 else [left]
    sides, _, kept = args[0].replace(" ", "").partition("->")
    letters = zip(sides.split(","), (left, right), strict=False)
    return [x for side, x in letters if side[-1:] not in kept and side[-2:-1] in kept]


def _are_shares(x: Tensor) -> bool:
    if x.shape[-1] < 2 or not x.is_floating_point() or bool(x.min() < 0):
        return False
    return bool(((x.sum(-1) - 1).abs() < _OFF).all())


def weighing_of(layer: nn.Module, *args: Any, **kwargs: Any) -> list[Tensor]:
    """All matrices by which a layer weighs something in a call. Shapes: (..., queries, keys)."""
    with _Weighing() as seen:
        layer.forward(*args, **kwargs)
    return seen.found
