"""Layers of how-do-vits-work: goldens/CONSTRUCTORS sections 3 and 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from zoo.layers.attention import Attention1d
from zoo.layers.embeddings import ClassToken, ConvEmbedding, PatchEmbedding, PositionEmbedding
from zoo.layers.residual import ChannelGate, DropPath, SpatialGate, conv_nxn
from zoo.layers.smoothing import Blur, Downsample, SamePad, SmoothingBlock, make_blur
from zoo.layers.transformer import FeedForward, LayerNorm2d, TransformerBlock
from zoo.layers.windows import WindowAttention
from zoo.models.hdvw_mixer import MixerBlock
from zoo.models.hdvw_pit import DepthwiseConv2d, TokenPool
from zoo.models.hdvw_swin import PatchMerging

from . import Built, Ref, bind
from . import build as build_target


def _swallowing(
    cls: Callable[..., nn.Module], rename: dict[str, str] | None = None, **known: Any
) -> Callable[..., Built]:
    """A target that takes the `known` arguments in order and swallows every other keyword."""

    def build(*args: Any, **kwargs: Any) -> Built:
        kwargs = {key: value for key, value in kwargs.items() if key in known}
        values = bind(list(args), kwargs, **known)
        return Built(cls(**{(rename or {}).get(key, key): value for key, value in values.items()}))

    return build


def _exact(
    cls: Callable[..., nn.Module], rename: dict[str, str] | None = None, **known: Any
) -> Callable[..., Built]:
    """The same, but another keyword is a TypeError."""

    def build(*args: Any, **kwargs: Any) -> Built:
        values = bind(list(args), kwargs, **known)
        return Built(cls(**{(rename or {}).get(key, key): value for key, value in values.items()}))

    return build


def _smoothing_targets() -> dict[str, Callable[..., Built]]:
    blur = {"sfilter": (1, 1), "pad_mode": "constant"}
    names = {"in_filters": "channels"}
    temps = {
        "TanhBlurBlock": ("tanh_blur", 10),
        "BNTanhBlurBlock": ("bn_tanh_blur", 10),
        "SigmoidBlurBlock": ("sigmoid_blur", 10),
        "SoftmaxBlurBlock": ("softmax_blur", 10),
        "ReLuBlurBlock": ("relu_blur", 6),
        "ScalingBlurBlock": ("scaling_blur", 5),
    }
    found: dict[str, Callable[..., Built]] = {}
    for name, (kind, temp) in temps.items():
        found[name] = _swallowing(_smoother(kind), names, in_filters=..., temp=temp, **blur)
    found["BlurBlock"] = _swallowing(_smoother("blur"), names, in_filters=..., **blur)
    for name, kind, temp in (("TanhBlock", "tanh", 10), ("ScalingBlock", "scaling", 5)):
        found[name] = _swallowing(_smoother(kind, channels=1), temp=temp)
    found["ReLuBlock"] = _swallowing(_smoother("relu", channels=1), {"thr": "temp"}, thr=6)
    return {f"models.smoothing_block.{name}": function for name, function in found.items()}


def _smoother(kind: str, **fixed: Any) -> Callable[..., nn.Module]:
    return lambda **values: SmoothingBlock(kind=kind, **fixed, **values)


def _spatial_gate(*args: Any, **kwargs: Any) -> Built:
    values = bind(list(args), kwargs, kernel_size=7, max_pool=True)
    if values["kernel_size"] not in (7, 8):  # the convolution is 7 x 7, only its padding follows
        raise ValueError("the original fails for this kernel_size")
    return Built(SpatialGate(max_pool=values["max_pool"]))


class _PatchUnembedding(nn.Module):
    """No network of ours needs it: tokens without the first, (row, column, channel), to a map."""

    def __init__(self, image_size: int, patch_size: int) -> None:
        super().__init__()
        self.side, self.patch = image_size // patch_size, patch_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = self.patch
        x = x[:, 1:].reshape(x.shape[0], self.side, self.side, p, p, -1)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(x.shape[0], -1, self.side * p, self.side * p)


class _CyclicShift(nn.Module):
    """Ours is a line of the window attention: roll by d along all `dims`."""

    def __init__(self, d: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.d, self.dims = d, tuple(dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.roll((self.d,) * len(self.dims), self.dims)


def _patch_embedding(*args: Any, **kwargs: Any) -> Built:
    values = bind(list(args), kwargs, image_size=..., patch_size=..., dim_out=..., channel=3)
    return Built(PatchEmbedding(values["patch_size"], values["dim_out"], values["channel"]))


def _positions(*args: Any, **kwargs: Any) -> Built:
    known = {"image_size": ..., "patch_size": ..., "dim": ..., "stride": None, "cls": True}
    values = bind(list(args), kwargs, **known)
    stride = values["stride"] or values["patch_size"]
    side = int((values["image_size"] - values["patch_size"]) / stride + 1)
    return Built(PositionEmbedding((side, side), values["dim"], class_token=values["cls"]))


def _with_weights(module: Any, *args: Any) -> tuple[Any, Any]:
    return module(*args), module.attention_weights(*args)


def _attention(cls: type[nn.Module], **known: Any) -> Callable[..., Built]:
    def build(*args: Any, **kwargs: Any) -> Built:
        values = bind(list(args), kwargs, dim_in=..., dim_out=None, **known)
        values["num_heads"] = values.pop("heads")
        values["head_dim"] = values.pop("dim_head")
        return Built(cls(**values), call=lambda m, x, mask=None: _with_weights(m, x, mask))

    return build


def _torch_class(ref: Ref) -> Callable[..., nn.Module]:
    """A layer class by its path: of torch.nn, or one of the original's shorthands."""
    if ref.path.startswith("torch.nn."):
        cls = getattr(nn, ref.path.rpartition(".")[2])
        return lambda *args: cls(*args, **dict(ref.kwargs))
    target = TARGETS[ref.path]
    return lambda *args: target(*args, **dict(ref.kwargs)).module


def _feed_forward(
    dim_in: int, hidden: int, dim_out: int | None, dropout: float, f: Ref, activation: Ref
) -> FeedForward:
    module = FeedForward(dim_in, hidden, dim_out, dropout)
    module.net[0] = _torch_class(f)(dim_in, hidden)
    module.net[1] = _torch_class(activation)()
    module.net[3] = _torch_class(f)(hidden, dim_out or dim_in)
    return module


_F = {"f": Ref("torch.nn.Linear"), "activation": Ref("torch.nn.GELU")}


def _feed_forward_target(*args: Any, **kwargs: Any) -> Built:
    known = {"dim_in": ..., "hidden_dim": ..., "dim_out": None, "dropout": 0.0, **_F}
    values = bind(list(args), kwargs, **known)
    values["hidden"] = values.pop("hidden_dim")
    return Built(_feed_forward(**values))


def _transformer(*args: Any, **kwargs: Any) -> Built:
    known = {"dim_in": ..., "dim_out": None, "heads": 8, "dim_head": 64, "dim_mlp": 1024}
    known |= {"dropout": 0.0, "sd": 0.0, "attn": Ref("models.attentions.Attention1d")}
    known |= {"norm": Ref("torch.nn.LayerNorm"), **_F}
    values = bind(list(args), kwargs, **known)
    dim_in, dim_out = values["dim_in"], values["dim_out"] or values["dim_in"]
    attn: Ref = values["attn"]
    shared = {"heads": values["heads"], "dim_head": values["dim_head"]}
    attention = build_target(
        {
            "target": attn.path,
            "args": [dim_in, dim_out],
            "kwargs": {**dict(attn.kwargs), **shared, "dropout": values["dropout"]},
        }
    )
    block = TransformerBlock(
        dim_in, attention.module, values["dim_mlp"], dim_out, drop_path=values["sd"]
    )
    norm = _torch_class(values["norm"])
    if len(block.shortcut):
        block.shortcut[0] = norm(dim_in)
    block.norm1, block.norm2 = norm(dim_in), norm(dim_out)
    block.ff = _feed_forward(
        dim_out,
        values["dim_mlp"],
        dim_out,
        values["dropout"],
        values["f"],
        values["activation"],
    )
    return Built(block)


def _convolution(kernel: int | None) -> Callable[..., Built]:
    def build(*args: Any, **kwargs: Any) -> Built:
        known: dict[str, Any] = {"in_channels": ..., "out_channels": ...}
        known |= {"kernel_size": ...} if kernel is None else {}
        known |= {"stride": 1, "groups": 1}
        known |= {"padding": 0} if kernel is None else {}
        values = bind(list(args), kwargs, **known)
        if kernel is None:
            return Built(nn.Conv2d(**values, bias=False))
        return Built(conv_nxn(**values, kernel_size=kernel))

    return build


TARGETS: dict[str, Callable[..., Built]] = {
    **_smoothing_targets(),
    "models.gates.ChannelGate": _exact(
        ChannelGate, {"channel": "channels"}, channel=..., reduction=16, max_pool=True
    ),
    "models.gates.SpatialGate": _spatial_gate,
    "models.layers.SamePad": _swallowing(SamePad, filter_size=..., pad_mode="constant"),
    "models.layers.Blur": _swallowing(
        Blur, {"in_filters": "channels"}, in_filters=..., sfilter=(1, 1), pad_mode="replicate"
    ),
    "models.layers.blur": _exact(
        make_blur, {"in_filters": "channels"}, in_filters=..., sfilter=(1, 1), pad_mode="constant"
    ),
    "models.layers.Downsample": _swallowing(Downsample, strides=(2, 2)),
    "models.layers.DropPath": _swallowing(DropPath, {"p": "drop_prob"}, p=...),
    "models.layers.conv1x1": _convolution(1),
    "models.layers.conv3x3": _convolution(3),
    "models.layers.convnxn": _convolution(None),
    "models.layers.relu": _exact(nn.ReLU),
    "models.layers.relu6": _exact(nn.Hardtanh, {"mx": "max_val", "mn": "min_val"}, mx=6.0, mn=0.0),
    "models.layers.bn": _exact(nn.BatchNorm2d, {"dim": "num_features"}, dim=...),
    "models.layers.ln1d": _exact(nn.LayerNorm, {"dim": "normalized_shape"}, dim=...),
    "models.layers.ln2d": _exact(LayerNorm2d, dim=...),
    "models.layers.dense": _exact(
        lambda **values: nn.Linear(values["in"], values["out"], values["bias"]),
        **{"in": ..., "out": ..., "bias": True},
    ),
    "models.attentions.Attention1d": _attention(Attention1d, heads=8, dim_head=64, dropout=0.0),
    "models.attentions.FeedForward": _feed_forward_target,
    "models.attentions.Transformer": _transformer,
    "models.swin.WindowAttention": _attention(
        WindowAttention, heads=8, dim_head=32, dropout=0.0, window_size=7, shifted=False
    ),
    "models.swin.CyclicShift": _exact(_CyclicShift, d=..., dims=(2, 3)),
    "models.swin.PatchMerging": _exact(PatchMerging, in_channels=..., out_channels=..., pool=...),
    "models.pit.Pool": _exact(TokenPool, dim_in=..., dim_out=...),
    "models.pit.DepthwiseConv2d": _exact(
        DepthwiseConv2d,
        dim_in=...,
        dim_out=...,
        kernel_size=...,
        padding=...,
        stride=...,
        bias=True,
    ),
    "models.mixer.MixerBlock": _exact(
        MixerBlock,
        {"sd": "drop_path"},
        hidden_dim=...,
        spatial_dim=...,
        channel_dim=...,
        num_patches=...,
        dropout=0.0,
        sd=0.0,
    ),
    "models.embeddings.PatchEmbedding": _patch_embedding,
    "models.embeddings.ConvEmbedding": _exact(
        ConvEmbedding, {"channel": "in_chans"}, patch_size=..., dim_out=..., channel=3, stride=None
    ),
    "models.embeddings.CLSToken": _exact(ClassToken, dim=...),
    "models.embeddings.AbsPosEmbedding": _positions,
    "models.embeddings.PatchUnembedding": _exact(_PatchUnembedding, image_size=..., patch_size=...),
}
