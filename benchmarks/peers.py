"""What ours is compared with: timm's ConViT, and the straightforward forms of the same equations.

The unfold form of convolutional self-attention and the per-token form of FCViT's block are written
from the published equations, with no rewriting, and take the weights of our modules.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo.errors import MissingDependencyError
from zoo.layers.conv_attention import ConvAttention2d
from zoo.layers.global_context import GlobalContext


def timm_gpsa(ours: nn.Module, dim: int, num_heads: int) -> nn.Module:
    """timm's GPSA layer with the weights of ours. Raises: MissingDependencyError."""
    try:
        from timm.models.convit import GPSA
    except ImportError:
        raise MissingDependencyError("this comparison needs timm: pip install timm") from None
    peer: nn.Module = GPSA(dim, num_heads)
    peer.load_state_dict(ours.state_dict())
    return peer


def timm_convit(ours: nn.Module, size: int) -> nn.Module:
    """timm's convit_tiny at a size with the weights of ours. Raises: MissingDependencyError."""
    try:
        import timm
    except ImportError:
        raise MissingDependencyError("this comparison needs timm: pip install timm") from None
    peer: nn.Module = timm.create_model("convit_tiny", img_size=size)
    peer.load_state_dict(ours.state_dict())
    return peer


class UnfoldConvAttention(nn.Module):
    """Convolutional self-attention as published: im2col of keys and values, einsum, softmax.

    Takes its three projections from a `ConvAttention2d` that keeps the grid.
    Shape: (B, C, H, W) -> the same.
    """

    def __init__(self, ours: ConvAttention2d) -> None:
        super().__init__()
        self.to_q, self.to_kv, self.to_out = ours.to_q, ours.to_kv, ours.to_out
        self.num_heads, self.scale = ours.num_heads, ours.scale
        self.window, self.padding = ours.kernel_size, ours.padding

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        q = self.to_q(x).unflatten(1, (self.num_heads, -1)).flatten(3).transpose(2, 3)
        k, v = (self._windows(part) for part in self.to_kv(x).chunk(2, dim=1))
        logits = torch.einsum("bhnd,bhndj->bhnj", q, k) * self.scale  # (B, nh, N, K * K)
        out = torch.einsum("bhnj,bhndj->bhnd", logits.softmax(-1), v)
        return self.to_out(out.transpose(2, 3).flatten(1, 2).unflatten(2, (height, width)))

    def _windows(self, x: Tensor) -> Tensor:
        x = F.unfold(x, self.window, padding=self.padding)  # (B, C * K * K, N): channel, window
        x = x.unflatten(1, (self.num_heads, -1, self.window**2))
        return x.permute(0, 1, 4, 2, 3)  # (B, nh, N, hd, K * K)


def unfolded(model: nn.Module) -> nn.Module:
    """A conv_attention_vit whose attention layers are replaced by the unfold form, in place."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvAttention2d):
                setattr(module, name, UnfoldConvAttention(child))
    return model


class _Part(nn.Module):
    """Channels [start, stop) of a map: a projection that costs nothing."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.start : self.stop]


def conv_attention_core(kernel_size: int, width: int = 192, num_heads: int = 3) -> ConvAttention2d:
    """Our convolutional attention without its projections: (B, 3 * width, H, W) -> (B, width, ...).

    q, k and v are read off the input's channels, so that only the attention itself is timed.
    """
    layer = ConvAttention2d(
        3 * width, num_heads=num_heads, head_dim=width // num_heads, kernel_size=kernel_size
    )
    layer.to_q, layer.to_kv = _Part(0, width), _Part(width, 3 * width)
    layer.to_out = nn.Sequential(nn.Identity())
    return layer


class PlainGlobalContext(nn.Module):
    """FCViT's global context as its equations are written: einsum, mean, unbiased deviation."""

    def __init__(self, ours: GlobalContext) -> None:
        super().__init__()
        self.fc1, self.fc2 = ours.fc1, ours.fc2
        self.rescale_weight, self.rescale_bias = ours.rescale_weight, ours.rescale_bias
        self.num_heads = ours.num_heads

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        gap = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        groups = (batch, self.num_heads, channels // self.num_heads)
        tokens, query = x.reshape(*groups, height * width), gap.reshape(*groups)
        score = torch.einsum("bgcn,bgc->bgn", tokens, query) / math.sqrt(groups[2])
        flat = score.reshape(batch, -1)
        flat = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-5)
        score = flat.reshape(batch, self.num_heads, 1, height, width)
        score = score * self.rescale_weight.view(1, -1, 1, 1, 1)
        score = score + self.rescale_bias.view(1, -1, 1, 1, 1)
        first, second = self.fc1(gap.flatten(1)).chunk(2, dim=1)
        context = self.fc2(torch.maximum(first, second)).reshape(*groups, 1, 1)
        return (context * score).reshape(x.shape)


class PlainFCBlock(nn.Module):
    """FCViT's block as its equations are written; weights from one of our blocks."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        mixer, channels = ours.token_mixer, ours.channel_mixer
        self.norm1, self.norm2 = ours.norm1, ours.norm2
        self.gc1, self.gc2 = PlainGlobalContext(mixer.gc1), PlainGlobalContext(mixer.gc2)
        self.mix1 = nn.Sequential(mixer.dw1, mixer.fc1, nn.GELU())
        self.mix2 = nn.Sequential(mixer.dw2, mixer.fc2, nn.GELU())
        self.channels = nn.Sequential(channels.fc1, channels.dwconv, nn.GELU(), channels.fc2)
        self.layer_scale_1, self.layer_scale_2 = ours.layer_scale_1, ours.layer_scale_2

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        y = self.mix1(y + self.gc1(y))
        y = self.mix2(y + self.gc2(y))
        x = x + self.layer_scale_1.unsqueeze(-1).unsqueeze(-1) * y
        y = self.channels(self.norm2(x))
        return x + self.layer_scale_2.unsqueeze(-1).unsqueeze(-1) * y


def plain_fcvit(model: nn.Module) -> nn.Module:
    """An FCViT whose blocks are replaced by the straightforward form, in place."""
    stages: Any = model.network
    for stage in stages:
        if isinstance(stage, nn.Sequential):
            for i, block in enumerate(stage):
                stage[i] = PlainFCBlock(block)
    return model


def plain_vit(size: int) -> nn.Module:
    """A plain vision transformer of convit_tiny's width and depth: no block has positions."""
    return zoo.create_model("convit_tiny", img_size=size, local_up_to_layer=0)
