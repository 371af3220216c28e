"""What attention layers do on real inputs: their matrices, and the gates of GPSA."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def collect_attention(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Attention weights of every layer that offers `attention_weights`, on its true input.

    Args:
        model: run once in eval mode without gradients; its mode is restored.
        x: images (B, C, H, W).
    Returns: module name -> weights, in order of execution. (B, nh, N, N) for self-attention,
        (B, nh, N, k * k) for windowed attention.
    """
    inputs: dict[str, tuple[Any, ...]] = {}
    handles = [
        module.register_forward_pre_hook(
            lambda _module, args, name=name: inputs.__setitem__(name, args)
        )
        for name, module in model.named_modules()
        if hasattr(module, "attention_weights")
    ]
    training = model.training
    try:
        model.eval()
        with torch.no_grad():
            model(x)
            return {
                name: model.get_submodule(name).attention_weights(*args)
                for name, args in inputs.items()
            }
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()


def gates(model: nn.Module) -> dict[str, Tensor]:
    """sigmoid(gating_param) of every GPSA layer: 1 is position only, 0 content only. Values
    (nh,).
    """
    return {
        name: module.gating_param.detach().sigmoid().cpu()
        for name, module in model.named_modules()
        if isinstance(getattr(module, "gating_param", None), nn.Parameter)
    }
