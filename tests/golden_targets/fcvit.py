"""ma-xu/FCViT `models/fcvit.py`: goldens/CONSTRUCTORS section 6."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from zoo.layers.global_context import (
    ChannelAttention,
    ChannelMixer,
    GlobalContext,
    SpatialAttention,
    TokenMixer,
    depthwise_conv,
)
from zoo.models.fcvit import BasicBlock, FCViT, OverlapPatchEmbed

from . import Built, Ref, bind

# The original's module-level settings, as they are before any builder edits them.
_PARAMS: dict[str, dict[str, Any]] = {
    "global_context": {"weighted_gc": True, "gc_reduction": 8, "compete": False, "head": 8},
    "spatial_mixer": {
        "use_globalcontext": True,
        "useSecondTokenMix": True,
        "mix_size_1": 5,
        "mix_size_2": 7,
        "fc_factor": 8,
        "fc_min_value": 16,
        "useSpatialAtt": True,
    },
    "channel_mixer": {"useChannelAtt": True, "useDWconv": True, "DWconv_size": 3},
    "spatial_att": {"kernel_size": 3, "dim_reduction": 8},
    "channel_att": {"size_1": 3, "size_2": 5},
}
_PUBLISHED = Ref(
    "models.fcvit.params",
    (
        ("global_context", {"compete": True}),
        ("spatial_mixer", {"mix_size_1": 11, "mix_size_2": 11, "useSpatialAtt": False}),
        ("channel_mixer", {"useChannelAtt": False}),
    ),
)
_GELU = Ref("torch.nn.GELU")
_NORM = Ref("models.fcvit.GroupNorm")
_DEFAULT = Ref("models.fcvit.params")


def _settings(params: Ref | dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings dict behind a `$ref`, an `$update` or a literal."""
    groups = dict(params.kwargs) if isinstance(params, Ref) else params
    if isinstance(params, Ref) and params.path != "models.fcvit.params":
        raise LookupError(f"unknown settings {params.path!r}")
    for group, values in groups.items():
        unknown = set(values) - set(_PARAMS[group])
        if unknown:
            raise LookupError(f"unknown settings {sorted(unknown)} in {group!r}")
    return {group: {**values, **groups.get(group, {})} for group, values in _PARAMS.items()}


def _context(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    group = settings["global_context"]
    return {
        "num_heads": group["head"],
        "reduction": group["gc_reduction"],
        "compete": group["compete"],
        "weighted": group["weighted_gc"],
    }


def _spatial_att(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    group = settings["spatial_att"]
    return {"kernel_size": group["kernel_size"], "reduction": group["dim_reduction"]}


def _channel_att(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    group = settings["channel_att"]
    return {"kernel_sizes": (group["size_1"], group["size_2"])}


def _token_mixer(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    group, context = settings["spatial_mixer"], _context(settings)
    att = _spatial_att(settings)
    return {
        "mix_sizes": (group["mix_size_1"], group["mix_size_2"]),
        "fc_factor": group["fc_factor"],
        "fc_min_value": group["fc_min_value"],
        "use_gc": group["use_globalcontext"],
        "use_second_mix": group["useSecondTokenMix"],
        "gc_heads": context["num_heads"],
        "gc_reduction": context["reduction"],
        "compete": context["compete"],
        "weighted_gc": context["weighted"],
        "use_spatial_att": group["useSpatialAtt"],
        "spatial_att_size": att["kernel_size"],
        "spatial_att_reduction": att["reduction"],
    }


def _channel_mixer(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    group = settings["channel_mixer"]
    return {
        "dw_size": group["DWconv_size"] if group["useDWconv"] else 0,
        "use_channel_att": group["useChannelAtt"],
        "channel_att_sizes": _channel_att(settings)["kernel_sizes"],
    }


def _torch_class(ref: Ref) -> Callable[..., nn.Module]:
    if not ref.path.startswith("torch.nn."):
        raise NotImplementedError(f"{ref.path} has no counterpart")
    cls = getattr(nn, ref.path.rsplit(".", 1)[1])
    return lambda *args: cls(*args, **dict(ref.kwargs))


def _replace(module: nn.Module, act_layer: Ref, norm_layer: Ref = _NORM) -> nn.Module:
    """Put other activations and norms in the places of ours, which are fixed as published."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GELU) and act_layer != _GELU:
                setattr(parent, name, _torch_class(act_layer)())
            if isinstance(child, nn.GroupNorm) and norm_layer != _NORM:
                setattr(parent, name, _torch_class(norm_layer)(child.num_channels))
    return module


def _scale(values: dict[str, Any]) -> float | None:
    init = values.pop("layer_scale_init_value")
    return init if values.pop("use_layer_scale") else None


def _base_former(*args: Any, **kwargs: Any) -> Built:
    known = {
        "layers": ...,
        "embed_dims": ...,
        "mlp_ratios": ...,
        "downsamples": ...,
        "norm_layer": _NORM,
        "act_layer": _GELU,
        "num_classes": 1000,
        "drop_rate": 0.0,
        "drop_path_rate": 0.0,
        "use_layer_scale": True,
        "layer_scale_init_value": 1e-5,
        "fork_feat": False,
        "init_cfg": None,
        "pretrained": None,
        "params": _DEFAULT,
    }
    # The original swallows unknown names, and in_chans.
    values = bind(list(args), {k: v for k, v in kwargs.items() if k in known}, **known)
    for ignored in ("init_cfg", "pretrained"):
        values.pop(ignored)
    settings = _settings(values.pop("params"))
    act_layer, norm_layer = values.pop("act_layer"), values.pop("norm_layer")
    model = FCViT(
        layer_scale_init_value=_scale(values),
        features_only=values.pop("fork_feat"),
        **values,
        **_token_mixer(settings),
        **_channel_mixer(settings),
    )
    return Built(_replace(model, act_layer, norm_layer))


def _named(layers: list[int], embed_dims: list[int]) -> Callable[..., Built]:
    def build(pretrained: bool = False, **kwargs: Any) -> Built:
        size = {
            "layers": layers,
            "embed_dims": embed_dims,
            "mlp_ratios": [8, 8, 4, 4],
            "downsamples": [True] * 4,
            "params": _PUBLISHED,
        }
        return _base_former(**size, **kwargs)  # a size given twice is a TypeError, as it is there

    return build


def _block_values(args: Any, kwargs: Any, **known: Any) -> tuple[dict[str, Any], Ref, Ref, Any]:
    values = bind(list(args), kwargs, **known)
    act_layer, norm_layer = values.pop("act_layer"), values.pop("norm_layer", _NORM)
    return values, act_layer, norm_layer, _settings(values.pop("params"))


def _basic_block(*args: Any, **kwargs: Any) -> Built:
    values, act_layer, norm_layer, settings = _block_values(
        args,
        kwargs,
        dim=...,
        mlp_ratio=4.0,
        act_layer=_GELU,
        norm_layer=_NORM,
        drop=0.0,
        drop_path=0.0,
        use_layer_scale=True,
        layer_scale_init_value=1e-4,
        params=_DEFAULT,
    )
    block = BasicBlock(
        layer_scale_init_value=_scale(values),
        token_mixer=_token_mixer(settings),
        channel_mixer=_channel_mixer(settings),
        **values,
    )
    return Built(_replace(block, act_layer, norm_layer))


def _basic_blocks(*args: Any, **kwargs: Any) -> Built:
    values = bind(
        list(args),
        kwargs,
        dim=...,
        index=...,
        layers=...,
        mlp_ratio=4.0,
        act_layer=_GELU,
        norm_layer=_NORM,
        drop_rate=0.0,
        drop_path_rate=0.0,
        use_layer_scale=True,
        layer_scale_init_value=1e-5,
        params=_DEFAULT,
    )
    index, layers = values.pop("index"), values.pop("layers")
    rate, values["drop"] = values.pop("drop_path_rate"), values.pop("drop_rate")
    blocks = []
    for i in range(layers[index]):
        position = sum(layers[:index]) + i
        drop_path = rate * position / (sum(layers) - 1) if sum(layers) > 1 else 0.0
        blocks.append(_basic_block(**values, drop_path=drop_path).module)
    return Built(nn.Sequential(*blocks))


def _token_mixer_layer(*args: Any, **kwargs: Any) -> Built:
    values, act_layer, _, settings = _block_values(
        args, kwargs, dim=..., act_layer=_GELU, params=_DEFAULT
    )
    return Built(_replace(TokenMixer(**values, **_token_mixer(settings)), act_layer))


def _channel_mixer_layer(*args: Any, **kwargs: Any) -> Built:
    values, act_layer, _, settings = _block_values(
        args, kwargs, dim=..., hidden_dim=None, act_layer=_GELU, drop=0.0, params=_DEFAULT
    )
    return Built(_replace(ChannelMixer(**values, **_channel_mixer(settings)), act_layer))


def _layer(cls: type[nn.Module], settings_of: Callable[..., dict[str, Any]], **known: Any) -> Any:
    def build(*args: Any, **kwargs: Any) -> Built:
        values, act_layer, _, settings = _block_values(
            args, kwargs, **known, act_layer=_GELU, params=_DEFAULT
        )
        return Built(_replace(cls(**values, **settings_of(settings)), act_layer))

    return build


def _patch_embed(*args: Any, **kwargs: Any) -> Built:
    values = bind(list(args), kwargs, patch_size=7, stride=4, in_chans=3, embed_dim=768)
    return Built(OverlapPatchEmbed(**values))


def _dw_conv(*args: Any, **kwargs: Any) -> Built:
    values = bind(list(args), kwargs, in_channels=..., kernel_size=..., bias=True)
    return Built(depthwise_conv(values["in_channels"], values["kernel_size"], values["bias"]))


def _group_norm(num_channels: int, **kwargs: Any) -> Built:
    return Built(nn.GroupNorm(1, num_channels, **kwargs))


TARGETS = {
    "models.fcvit.fcvit_tiny": _named([3, 3, 5, 2], [32, 64, 160, 320]),
    "models.fcvit.fcvit_b12": _named([2, 2, 6, 2], [64, 128, 320, 512]),
    "models.fcvit.fcvit_b24": _named([4, 4, 12, 4], [64, 128, 320, 512]),
    "models.fcvit.fcvit_b48": _named([8, 8, 24, 8], [64, 128, 320, 512]),
    "models.fcvit.BaseFormer": _base_former,
    "models.fcvit.BasicBlock": _basic_block,
    "models.fcvit.basic_blocks": _basic_blocks,
    "models.fcvit.TokenMixer": _token_mixer_layer,
    "models.fcvit.ChannelMixer": _channel_mixer_layer,
    "models.fcvit.GlobalContext": _layer(GlobalContext, _context, dim=...),
    "models.fcvit.SpatialAtt": _layer(SpatialAttention, _spatial_att, dim=...),
    "models.fcvit.ChannelAtt": _layer(ChannelAttention, _channel_att),
    "models.fcvit.OverlapPatchEmbed": _patch_embed,
    "models.fcvit.DWConv2D": _dw_conv,
    "models.fcvit.GroupNorm": _group_norm,
}
