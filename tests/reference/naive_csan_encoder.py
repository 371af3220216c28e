"""Slow twin of the image encoder of convolutional self-attention, from patches to logits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .naive import linear, patches_linear
from .naive_csan import csan


def layer_norm(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    """(x - mean) / sqrt(variance + 1e-5) over the width, scaled and shifted."""
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / deviation * state[f"{name}.weight"] + state[f"{name}.bias"]


def csan_encoder(x: Tensor, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Tensor:
    """Logits (B, num_classes) of images (B, 3, H, W) of the size in `config`, the 2-D form."""
    maps = patches_linear(x, state["patch_embed.proj.weight"], config["patch_size"])
    x = maps.flatten(2).transpose(1, 2) + state["patch_embed.proj.bias"]  # (B, N, C)
    x = x + state["pos_embed"]
    for i in range(config["depth"]):
        block = {k.removeprefix(f"blocks.{i}."): v for k, v in state.items()}
        attn = {k.removeprefix("attn."): v for k, v in block.items() if k.startswith("attn.")}
        local = i < config["local_layers"]
        reach = config["half_width"] if local else x.shape[1]
        heads = (-1, 0, 1) if local else (0,)
        x = x + csan(layer_norm(x, block, "norm1"), attn, config["num_heads"], reach, heads)[0]
        hidden = linear(layer_norm(x, block, "norm2"), block, "ff.net.0")
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + linear(hidden, block, "ff.net.3")
    return linear(layer_norm(x, state, "norm").mean(1), state, "head")
