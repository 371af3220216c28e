"""What a linear layer does, whoever stands in its place: parameters only where they are the layer.

Adapters (LoRA, DoRA, IA3), quantised layers and hooks replace or surround an `nn.Linear`; they act
when it is called, and its own `.weight`, where there is one, is no longer what it computes. So a
child is called. Where a faster form needs the numbers themselves, the two functions here decide:
the parameters of a plain layer, and of any other the map that its calls show.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def is_plain(layer: nn.Module) -> bool:
    """Whether calling `layer` is x W^T + b with its own parameters, and nothing sees the call."""
    return (
        type(layer) is nn.Linear  # a parametrised layer has a type of its own
        and "forward" not in layer.__dict__
        and not layer._forward_hooks
        and not layer._forward_pre_hooks
        and not layer._backward_hooks
        and not layer._backward_pre_hooks
    )


def weight_and_bias(layer: nn.Module, in_features: int) -> tuple[Tensor, Tensor | None]:
    """(out, in) and (out,) of the affine map that `layer` is; the bias is None if it has none.

    What is not a plain `nn.Linear` is called on the unit vectors and on 0, so that gradients reach
    whatever it consists of. A layer that is not affine has no such map: its value at the unit
    vectors is taken for one.
    """
    if is_plain(layer):
        return layer.weight, layer.bias
    like = next((p for p in layer.parameters() if p.is_floating_point()), None)
    like = torch.empty(0) if like is None else like  # quantised layers pack theirs away
    units = torch.eye(in_features + 1, in_features, dtype=like.dtype, device=like.device)
    *columns, bias = layer(units).unbind(0)  # the last row of units is 0
    return torch.stack(columns, dim=1) - bias[:, None], bias
