"""how-do-vits-work `models/convit.py`: goldens/CONSTRUCTORS sections 2.3 and 3."""

from __future__ import annotations

from typing import Any

from zoo.layers.conv_attention import ConvAttention2d
from zoo.models.conv_attention_vit import ConvAttentionViT

from . import Built, bind, expect

_LAYER = {"k": 1, "kernel_size": 3, "dilation": 1, "padding": 0, "stride": 1}
_OURS = {
    "image_size": "img_size",
    "channel": "in_chans",
    "dim": "embed_dim",
    "heads": "num_heads",
    "dim_head": "head_dim",
    "dim_mlp": "mlp_dim",
    "dropout": "drop_rate",
    "emb_dropout": "pos_drop_rate",
    "sd": "drop_path_rate",
    "k": "kv_stride",
}


def _network(values: dict[str, Any]) -> Built:
    expect(values, stride=1, embedding=None, classifier=None)
    values.pop("name")
    return Built(ConvAttentionViT(**{_OURS.get(key, key): value for key, value in values.items()}))


def _without_swallowed(kwargs: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The original accepts any other keyword and ignores it."""
    return {key: value for key, value in kwargs.items() if key in known}


_COMMON = {
    "dropout": 0.0,
    "emb_dropout": 0.0,
    "sd": 0.0,
    **_LAYER,
    "embedding": None,
    "classifier": None,
}


def _sized(depth: int, dim: int, heads: int, dim_head: int = 64):
    def build(*args: Any, **kwargs: Any) -> Built:
        known = {
            "num_classes": 1000,
            "name": "convit",
            "image_size": 224,
            "patch_size": 16,
            "channel": 3,
            "depth": depth,
            "dim": dim,
            "heads": heads,
            "dim_head": dim_head,
            "dim_mlp": 4 * dim,
            **_LAYER,
        }
        known |= {key: value for key, value in _COMMON.items() if key not in known}
        return _network(bind(list(args), _without_swallowed(kwargs, known), **known))

    return build


def _convit(**kwargs: Any) -> Built:
    known = {
        "image_size": ...,
        "patch_size": ...,
        "num_classes": ...,
        "depth": ...,
        "dim": ...,
        "heads": ...,
        "dim_mlp": ...,
        "channel": 3,
        "dim_head": 64,
        "name": "convit",
        **_COMMON,
    }
    return _network(bind([], _without_swallowed(kwargs, known), **known))


def _call(module: ConvAttention2d, x: Any, mask: Any = None) -> tuple[Any, Any]:
    return module(x, mask), module.attention_weights(x, mask)


def _layer(*args: Any, **kwargs: Any) -> Built:
    values = bind(
        list(args),
        kwargs,
        dim_in=...,
        dim_out=None,
        heads=8,
        dim_head=64,
        dropout=0.0,
        **{**_LAYER, "kernel_size": 1},
    )
    expect(values, stride=1)
    values["num_heads"] = values.pop("heads")
    values["head_dim"] = values.pop("dim_head")
    values["kv_stride"] = values.pop("k")
    return Built(ConvAttention2d(**values), call=_call)


TARGETS = {
    "models.convit.tiny": _sized(12, 192, 3),
    "models.convit.small": _sized(12, 384, 6),
    "models.convit.base": _sized(12, 768, 12),
    "models.convit.large": _sized(24, 1024, 16),
    "models.convit.huge": _sized(32, 1280, 16, 80),
    "models.convit.ConViT": _convit,
    "models.convit.ConvAttention2d": _layer,
}
