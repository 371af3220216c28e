"""The convolutional networks of how-do-vits-work: goldens/CONSTRUCTORS sections 2.1 and 2.2."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from zoo.layers.mc_dropout import Ensemble
from zoo.models.alexnet import AlexNet
from zoo.models.resnet import ResNet, make_stem
from zoo.models.vgg import VGG

from . import Built, Ref, bind, hdvw_tokens
from .hdvw_blocks import GATES, RESNETS, cblock, head_keywords, smoothing_keywords

_SBLOCK = Ref("models.smoothing_block.TanhBlurBlock")


def _mc_keywords(kind: str, block_kwargs: dict[str, Any], rate: float) -> dict[str, Any]:
    return {"block": kind, "mc_rate": block_kwargs.get("rate", rate) if kind == "mcdo" else 0.0}


_BLOCK = re.compile(
    r"models\.(?P<family>(pre|se|cbam)?resnet|(pre)?vggnet|alexnet)_(?P<kind>dnn|mcdo)_block"
    r"\.(?P<name>BasicBlock|Bottleneck)"
)


def _block_class(block: Ref, *families: str) -> tuple[str, str, bool, dict[str, Any]]:
    """Family, kind, bottleneck and bound keywords of a block class."""
    match = _BLOCK.fullmatch(block.path)
    if match is None or match["family"] not in families:
        raise LookupError(f"no counterpart for the block {block.path!r}")
    return match["family"], match["kind"], match["name"] == "Bottleneck", dict(block.kwargs)


def _resnet_class(preact: bool):
    def build(*args: Any, **kwargs: Any) -> Built:
        known = {"block": ..., "num_blocks": ..., "sblock": _SBLOCK, "num_sblocks": (0, 0, 0, 0)}
        known["cblock"] = cblock("BNGAPBlock" if preact else "GAPBlock")
        known |= {"sd": 0.0} if not preact else {}
        known |= {"num_classes": 10, "stem": True, "name": "resnet"}
        rest = {key: kwargs.pop(key) for key in list(kwargs) if key not in known}
        values = bind(list(args), kwargs, **known)
        families = ("resnet", "preresnet", "seresnet", "cbamresnet")
        family, kind, bottleneck, bound = _block_class(values["block"], *families)
        block_kwargs = {**bound, **rest}
        extra = {
            key: block_kwargs[key] for key in ("groups", "width_per_group") if key in block_kwargs
        }
        if family in GATES:
            extra |= {"gate": GATES[family], "reduction": block_kwargs.get("reduction", 16)}
        model = ResNet(
            num_classes=values["num_classes"],
            num_blocks=values["num_blocks"],
            bottleneck=bottleneck,
            preact=family == "preresnet",
            smoothing=list(values["num_sblocks"]),
            stem=values["stem"],
            drop_path_rate=values.get("sd", block_kwargs.get("sd", 0.0)),
            **extra,
            **_mc_keywords(kind, block_kwargs, 0.3),
            **smoothing_keywords(values["sblock"], rest),
            **head_keywords(values["cblock"], rest),
        )
        model.layer0 = make_stem(3, 64, values["stem"], norm=not preact)
        return Built(model)

    return build


def _vgg_class(*args: Any, **kwargs: Any) -> Built:
    known = {
        "block": ...,
        "num_blocks": ...,
        "sblock": _SBLOCK,
        "num_sblocks": (0,) * 5,
        "cblock": cblock("MLPBlock"),
        "num_classes": 10,
        "name": "vgg",
    }
    rest = {key: kwargs.pop(key) for key in list(kwargs) if key not in known}
    values = bind(list(args), kwargs, **known)
    family, kind, _, bound = _block_class(values["block"], "vggnet", "prevggnet")
    model = VGG(
        num_classes=values["num_classes"],
        num_blocks=values["num_blocks"],
        preact=family == "prevggnet",
        smoothing=list(values["num_sblocks"]),
        **_mc_keywords(kind, {**bound, **rest}, 0.3),
        **smoothing_keywords(values["sblock"], rest),
        **head_keywords(values["cblock"], rest),
    )
    return Built(model)


def _alexnet_class(*args: Any, **kwargs: Any) -> Built:
    known = {
        "block": ...,
        "sblock": _SBLOCK,
        "num_sblocks": (0,) * 3,
        "cblock": cblock("MLPBlock"),
        "num_classes": 10,
        "stem": True,
        "name": "alexnet",
    }
    rest = {key: kwargs.pop(key) for key in list(kwargs) if key not in known}
    values = bind(list(args), kwargs, **known)
    _, kind, _, bound = _block_class(values["block"], "alexnet")
    model = AlexNet(
        num_classes=values["num_classes"],
        smoothing=list(values["num_sblocks"]),
        stem=values["stem"],
        **_mc_keywords(kind, {**bound, **rest}, 0.1),
        **smoothing_keywords(values["sblock"], rest),
        **head_keywords(values["cblock"], rest),
    )
    return Built(model)


_VGG_BLOCKS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
_RESNET_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_GROUPED = {
    "resnext": {
        50: {"groups": 32, "width_per_group": 4},
        101: {"groups": 32, "width_per_group": 8},
    },
    "wideresnet": {50: {"width_per_group": 128}, 101: {"width_per_group": 128}},
}


def _smoothing(kind: str, places: tuple[int, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if not kind.endswith("_smoothing"):
        return kwargs
    if "num_sblocks" in kwargs:
        raise TypeError("num_sblocks is set by the original builder")
    return {**kwargs, "num_sblocks": places}


def _named_resnet(family: str, kind: str, depth: int) -> Callable[..., Built]:
    def build(num_classes: int = 10, stem: bool = True, name: str = "", **kwargs: Any) -> Built:
        if {"block", "num_blocks"} & set(kwargs):
            raise TypeError("block and num_blocks are set by the original builder")
        if family in _GROUPED:
            kwargs = dict(**_GROUPED[family][depth], **kwargs)
        places = (1, 1, 1, 0 if family in ("preresnet", *GATES) else 1)
        block = "BasicBlock" if depth < 50 else "Bottleneck"
        module = family if family in RESNETS else "resnet"
        return _resnet_class(preact=family == "preresnet")(
            Ref(f"models.{module}_{kind.removesuffix('_smoothing')}_block.{block}"),
            _RESNET_BLOCKS[depth],
            num_classes=num_classes,
            stem=stem,
            **_smoothing(kind, places, kwargs),
        )

    return build


def _named_vgg(family: str, kind: str, depth: int) -> Callable[..., Built]:
    def build(num_classes: int = 10, name: str = "", **kwargs: Any) -> Built:
        if {"block", "num_blocks"} & set(kwargs):
            raise TypeError("block and num_blocks are set by the original builder")
        return _vgg_class(
            Ref(f"models.{family}_{kind.removesuffix('_smoothing')}_block.BasicBlock"),
            _VGG_BLOCKS[depth],
            num_classes=num_classes,
            **_smoothing(kind, (1,) * 5, kwargs),
        )

    return build


def _named_alexnet(kind: str) -> Callable[..., Built]:
    def build(num_classes: int = 10, stem: bool = True, name: str = "", **kwargs: Any) -> Built:
        if "block" in kwargs:
            raise TypeError("block is set by the original builder")
        return _alexnet_class(
            Ref(f"models.alexnet_{kind.removesuffix('_smoothing')}_block.BasicBlock"),
            num_classes=num_classes,
            stem=stem,
            **_smoothing(kind, (1,) * 3, kwargs),
        )

    return build


_KINDS = ("dnn", "mcdo", "dnn_smoothing", "mcdo_smoothing")


def _builders() -> tuple[dict[str, Callable[..., Built]], dict[str, Callable[..., Built]]]:
    """Builder functions by their path, and by the name that get_model knows them under."""
    by_path: dict[str, Callable[..., Built]] = {}
    by_name: dict[str, Callable[..., Built]] = {}

    def add(family: str, module: str, kind: str, depth: str, function: Callable[..., Built]):
        short = kind.replace("_smoothing", "_smooth")
        by_path[f"models.{module}.{short}{depth}"] = function
        by_name[f"{family}_{kind}{depth}"] = function
        if kind == "dnn":
            by_name[f"{family}{depth}"] = function

    for kind in _KINDS:
        add("alexnet", "alexnet", kind, "", _named_alexnet(kind))
        for depth in _VGG_BLOCKS:
            for family in ("vgg", "prevgg"):
                add(
                    family,
                    f"{family}net",
                    kind,
                    f"_{depth}",
                    _named_vgg(f"{family}net", kind, depth),
                )
        for family in (*RESNETS, *_GROUPED):
            for depth in _GROUPED.get(family, _RESNET_BLOCKS):
                add(family, family, kind, f"_{depth}", _named_resnet(family, kind, depth))
    return by_path, by_name


_BY_PATH, _BY_NAME = _builders()


def _get_model(
    name: str, num_classes: int = 10, stem: bool = False, verbose: bool = True, **kwargs: Any
) -> Built:
    if name in _BY_NAME:
        vgg = name.startswith(("vgg", "prevgg"))  # get_model ignores stem for these
        kwargs = kwargs if vgg else {**kwargs, "stem": stem}
        return _BY_NAME[name](num_classes=num_classes, **kwargs)
    if name in hdvw_tokens.BY_NAME:
        return hdvw_tokens.BY_NAME[name](num_classes=num_classes, **kwargs)
    raise NotImplementedError(f"the original's get_model does not know {name!r}")


def _ensemble(models: list[Built], name: str | None = None) -> Built:
    return Built(Ensemble([member.module for member in models]))


TARGETS: dict[str, Callable[..., Built]] = {
    "models.get_model": _get_model,
    **_BY_PATH,
    "models.alexnet.AlexNet": _alexnet_class,
    "models.vggnet.VGGNet": _vgg_class,
    "models.prevggnet.VGGNet": _vgg_class,
    "models.preresnet.PreResNet": _resnet_class(preact=True),
    **{
        f"models.{family}.ResNet": _resnet_class(preact=False)
        for family in ("resnet", "seresnet", "cbamresnet", "resnext", "wideresnet")
    },
    "models.ensemble.Ensemble": _ensemble,
}
