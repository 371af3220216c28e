"""facebookresearch/convit: goldens/CONSTRUCTORS section 1."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from zoo.analysis.nonlocality import nonlocality
from zoo.layers.attention import MultiHeadSelfAttention
from zoo.layers.embeddings import PatchEmbed
from zoo.layers.gpsa import GatedPositionalSelfAttention
from zoo.layers.transformer import Mlp
from zoo.models.convit import Block, ConViT

from . import Built, Ref, bind, expect


def _norm_eps(norm_layer: Ref | None, default: float) -> float:
    if norm_layer is None:
        return default
    if not norm_layer.path.endswith("LayerNorm"):
        raise NotImplementedError(f"norm_layer {norm_layer.path} has no counterpart")
    return dict(norm_layer.kwargs).get("eps", 1e-5)


def _vision_transformer(*args: Any, **kwargs: Any) -> Built:
    values = bind(
        list(args),
        kwargs,
        img_size=224,
        patch_size=16,
        in_chans=3,
        num_classes=1000,
        embed_dim=48,
        depth=12,
        num_heads=12,
        mlp_ratio=4.0,
        qkv_bias=False,
        qk_scale=None,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        drop_path_rate=0.0,
        hybrid_backbone=None,
        norm_layer=None,
        global_pool=None,
        local_up_to_layer=10,
        locality_strength=1.0,
        use_pos_embed=True,
    )
    values.pop("global_pool")  # swallowed by the original
    expect(values, hybrid_backbone=None)
    eps = _norm_eps(values.pop("norm_layer"), 1e-5)
    return Built(ConViT(**values, norm_eps=eps))


def _named(num_heads: int):
    def build(pretrained: bool = False, **kwargs: Any) -> Built:
        if pretrained:
            raise NotImplementedError("pretrained=True downloads")
        for taken in ("num_heads", "norm_layer"):
            if taken in kwargs:
                raise TypeError(f"{taken} is set by the original builder")
        kwargs["embed_dim"] = kwargs["embed_dim"] * num_heads
        eps = Ref("torch.nn.LayerNorm", (("eps", 1e-6),))
        return _vision_transformer(**kwargs, num_heads=num_heads, norm_layer=eps)

    return build


def _average_map(module: nn.Module, x: torch.Tensor, return_map: bool = False) -> Any:
    attention = module.attention_weights(x)
    side = math.isqrt(x.shape[1])
    distance = nonlocality(attention, (side, side))
    return (distance, attention.mean(0)) if return_map else distance


_METHODS = {
    "get_attention": lambda module, x: module.attention_weights(x),
    "get_attention_map": _average_map,
}


def _attention(cls: type[nn.Module], **extra: Any):
    def build(*args: Any, **kwargs: Any) -> Built:
        defaults = {
            "num_heads": 8,
            "qkv_bias": False,
            "qk_scale": None,
            "attn_drop": 0.0,
            "proj_drop": 0.0,
        }
        values = bind(list(args), kwargs, dim=..., **defaults, **extra)
        return Built(cls(**values), methods=_METHODS)

    return build


def _block(*args: Any, **kwargs: Any) -> Built:
    named = {}
    for name in ("locality_strength", "use_local_init"):
        if name in kwargs:
            named[name] = kwargs.pop(name)
    values = bind(
        list(args),
        kwargs,
        dim=...,
        num_heads=...,
        mlp_ratio=4.0,
        qkv_bias=False,
        qk_scale=None,
        drop=0.0,
        attn_drop=0.0,
        drop_path=0.0,
        act_layer=Ref("torch.nn.GELU"),
        norm_layer=Ref("torch.nn.LayerNorm"),
        use_gpsa=True,
    )
    expect(values, act_layer=Ref("torch.nn.GELU"))
    attn = {name: values.pop(name) for name in ("qkv_bias", "qk_scale", "attn_drop")}
    eps = _norm_eps(values.pop("norm_layer"), 1e-5)
    return Built(Block(**values, norm_eps=eps, attn={**attn, **named}))


def _mlp(*args: Any, **kwargs: Any) -> Built:
    values = bind(
        list(args),
        kwargs,
        in_features=...,
        hidden_features=None,
        out_features=None,
        act_layer=Ref("torch.nn.GELU"),
        drop=0.0,
    )
    expect(values, act_layer=Ref("torch.nn.GELU"))
    return Built(Mlp(**values))


def _patch_embed(*args: Any, **kwargs: Any) -> Built:
    values = bind(list(args), kwargs, img_size=224, patch_size=16, in_chans=3, embed_dim=768)
    for name in ("img_size", "patch_size"):
        if isinstance(values[name], list):
            values[name] = tuple(values[name])
    return Built(PatchEmbed(**values))


TARGETS = {
    "models.convit_tiny": _named(4),
    "models.convit_small": _named(9),
    "models.convit_base": _named(16),
    "convit.VisionTransformer": _vision_transformer,
    "convit.GPSA": _attention(
        GatedPositionalSelfAttention, locality_strength=1.0, use_local_init=True
    ),
    "convit.MHSA": _attention(MultiHeadSelfAttention),
    "convit.Block": _block,
    "convit.Mlp": _mlp,
    "convit.PatchEmbed": _patch_embed,
}
