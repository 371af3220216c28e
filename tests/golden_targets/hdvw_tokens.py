"""ViT, PiT, Swin and Mixer of how-do-vits-work: goldens/CONSTRUCTORS section 2.3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from zoo.models.hdvw_mixer import MLPMixer
from zoo.models.hdvw_pit import PoolingVisionTransformer
from zoo.models.hdvw_swin import SwinTransformer
from zoo.models.hdvw_vit import VisionTransformer

from . import Built, bind, expect

_OURS = {
    "image_size": "img_size",
    "channel": "in_chans",
    "channels": "in_chans",
    "dim": "embed_dim",
    "dims": "embed_dims",
    "hidden_dim": "embed_dim",
    "spatial_dim": "token_dim",
    "heads": "num_heads",
    "dim_head": "head_dim",
    "dims_head": "head_dims",
    "dim_mlp": "mlp_dim",
    "dims_mlp": "mlp_dims",
    "dropout": "drop_rate",
    "emb_dropout": "pos_drop_rate",
    "sd": "drop_path_rate",
}


def _network(cls: type[nn.Module], values: dict[str, Any]) -> Built:
    values.pop("name")
    for name in ("embedding", "classifier"):
        if name in values:
            expect(values, **{name: None})
    ours = {_OURS.get(key, key): value for key, value in values.items()}
    return Built(cls(**ours))


def _known(kwargs: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Without the keywords that the original accepts and ignores."""
    return {key: value for key, value in kwargs.items() if key in known}


_IMAGE = {"num_classes": 1000, "name": "", "image_size": 224, "patch_size": 16}
_OWN = {"embedding": None, "classifier": None}
_VIT = {"dropout": 0.0, "emb_dropout": 0.0, "sd": 0.0, **_OWN}


def _vit(depth: int, dim: int, heads: int, dim_head: int = 64) -> Callable[..., Built]:
    known = {**_IMAGE, "channel": 3, "depth": depth, "dim": dim, "heads": heads}
    known |= {"dim_head": dim_head, "dim_mlp": 4 * dim, **_VIT}
    positional = list(known)[:10]

    def build(*args: Any, **kwargs: Any) -> Built:
        _check_positional(args, positional)
        return _network(VisionTransformer, bind(list(args), _known(kwargs, known), **known))

    return build


def _check_positional(args: tuple[Any, ...], names: list[str]) -> None:
    if len(args) > len(names):
        raise TypeError(f"takes {len(names)} positional arguments; got {len(args)}")


def _vit_class(**kwargs: Any) -> Built:
    known = {"image_size": ..., "patch_size": ..., "num_classes": ..., "depth": ..., "dim": ...}
    known |= {"heads": ..., "dim_mlp": ..., "channel": 3, "dim_head": 64, "name": "", **_VIT}
    return _network(VisionTransformer, bind([], _known(kwargs, known), **known))


_PIT_STAGES = ("dims", "heads", "dims_head", "dims_mlp")


def _pit_network(values: dict[str, Any]) -> Built:
    if len(values["depths"]) != 3:
        raise ValueError("the original has exactly 3 stages")
    for name in _PIT_STAGES:
        if isinstance(values[name], int):
            values[name] = (values[name],) * 3
    if values["stride"] is None:
        values["stride"] = values["patch_size"]
    return _network(PoolingVisionTransformer, values)


def _pit(stride: int, *stages: tuple[int, ...]) -> Callable[..., Built]:
    names = ("dims", "depths", "heads", "dims_head", "dims_mlp")
    known = {**_IMAGE, "channel": 3, "stride": stride, **dict(zip(names, stages, strict=True))}
    known |= {"dropout": 0.0, "emb_dropout": 0.0, "sd": 0.0}
    positional = len(known)
    known |= _OWN

    def build(*args: Any, **kwargs: Any) -> Built:
        _check_positional(args, list(known)[:positional])
        return _pit_network(bind(list(args), kwargs, **known))

    return build


def _pit_class(**kwargs: Any) -> Built:
    known = {"image_size": ..., "patch_size": ..., "num_classes": ..., "dims": ..., "depths": ...}
    known |= {"heads": ..., "dims_head": ..., "dims_mlp": ..., "channel": 3, "stride": None}
    return _pit_network(bind([], kwargs, **known, **_VIT, name=""))


def _mixer(depth: int, dim: int) -> Callable[..., Built]:
    known = {**_IMAGE, "depth": depth, "hidden_dim": dim, "spatial_dim": dim // 2}
    known |= {"channel_dim": 4 * dim, "channels": 3, "dropout": 0.0, "sd": 0.0}

    def build(*args: Any, **kwargs: Any) -> Built:
        return _network(MLPMixer, bind(list(args), _known(kwargs, known), **known))

    return build


def _mixer_class(**kwargs: Any) -> Built:
    known = {"image_size": ..., "patch_size": ..., "num_classes": ..., "hidden_dim": ...}
    known |= {"spatial_dim": ..., "channel_dim": ..., "depth": ..., "channel": 3}
    return _network(MLPMixer, bind([], kwargs, **known, dropout=0.0, sd=0.0, **_OWN, name=""))


_SWIN = {
    "channel": 3,
    "dim_head": 32,
    "window_size": 7,
    "pools": (4, 2, 2, 2),
    "dropout": 0.0,
    "sd": 0.0,
    "classifier": None,
}


def _swin_network(values: dict[str, Any]) -> Built:
    values["depths"] = [depth // 2 * 2 for depth in values["depths"]]  # the original rounds down
    values["head_dim"] = values.pop("dim_head")
    return _network(SwinTransformer, values)


def _swin(dim: int, depths: tuple[int, ...], heads: tuple[int, ...]) -> Callable[..., Built]:
    dims = tuple(dim << n for n in range(4))
    known = {"num_classes": ..., "dims": dims, "depths": depths, "heads": heads}
    known |= {"dims_mlp": tuple(4 * d for d in dims), "name": ""}
    positional = list(known)
    known |= _SWIN

    def build(*args: Any, **kwargs: Any) -> Built:
        _check_positional(args, positional)
        return _swin_network(bind(list(args), _known(kwargs, known), **known))

    return build


def _swin_class(**kwargs: Any) -> Built:
    known = {"num_classes": ..., "depths": ..., "dims": ..., "heads": ..., "dims_mlp": ...}
    known |= {"name": "", **_SWIN}
    return _swin_network(bind([], _known(kwargs, known), **known))


_VITS = {
    "ti": ("tiny", _vit(12, 192, 3)),
    "s": ("small", _vit(12, 384, 6)),
    "b": ("base", _vit(12, 768, 12)),
    "l": ("large", _vit(24, 1024, 16)),
    "h": ("huge", _vit(32, 1280, 16, 80)),
}
_D = (2, 6, 4)
_PITS = {
    "ti": ("tiny", _pit(8, (64, 128, 256), _D, (2, 4, 8), (32,) * 3, (256, 512, 1024))),
    "xs": ("xsmall", _pit(8, (96, 192, 384), _D, (2, 4, 8), (48,) * 3, (384, 768, 1024))),
    "s": ("small", _pit(8, (144, 288, 576), _D, (3, 6, 12), (48,) * 3, (576, 1152, 2304))),
    "b": ("base", _pit(7, (256, 512, 1024), (3, 6, 4), (4, 8, 16), (64,) * 3, (256, 512, 1024))),
}
_MIXERS = {
    "ti": ("tiny", _mixer(8, 256)),
    "s": ("small", _mixer(8, 512)),
    "b": ("base", _mixer(12, 768)),
    "l": ("large", _mixer(24, 1024)),
    "h": ("huge", _mixer(32, 1280)),
}
_FAMILIES = {"vit": _VITS, "pit": _PITS, "mixer": _MIXERS}
BY_NAME: dict[str, Callable[..., Built]] = {
    f"{family}_{short}": function
    for family, sizes in _FAMILIES.items()
    for short, (_, function) in sizes.items()
}
TARGETS: dict[str, Callable[..., Built]] = {
    **{
        f"models.{family}.{size}": function
        for family, sizes in _FAMILIES.items()
        for size, function in sizes.values()
    },
    "models.vit.ViT": _vit_class,
    "models.pit.PiT": _pit_class,
    "models.mixer.Mixer": _mixer_class,
    "models.swin.Swin": _swin_class,
    "models.swin.swin_t": _swin(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "models.swin.swin_s": _swin(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "models.swin.swin_b": _swin(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "models.swin.swin_l": _swin(192, (2, 2, 6, 2), (3, 6, 12, 24)),
}
