"""CNN blocks and the MobileNet of how-do-vits-work: goldens/CONSTRUCTORS sections 2 and 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoo.layers.heads import ClassifierBlock
from zoo.layers.residual import ConvUnit, ResidualBlock, make_gate
from zoo.models.mobilenet import InvertedResidual, MobileNetV2

from . import Built, Ref, bind

RESNETS = ("resnet", "preresnet", "seresnet", "cbamresnet")
GATES = {"seresnet": "se", "cbamresnet": "cbam"}
SBLOCKS = {
    "TanhBlurBlock": "tanh_blur",
    "BNTanhBlurBlock": "bn_tanh_blur",
    "SigmoidBlurBlock": "sigmoid_blur",
    "SoftmaxBlurBlock": "softmax_blur",
    "ReLuBlurBlock": "relu_blur",
    "ScalingBlurBlock": "scaling_blur",
    "BlurBlock": "blur",
    "TanhBlock": "tanh",
    "ScalingBlock": "scaling",
    "ReLuBlock": "relu",
}
CBLOCKS = {
    "GAPBlock": "gap",
    "BNGAPBlock": "bngap",
    "GMaxPBlock": "gmaxp",
    "GMedPBlock": "gmedp",
    "GAPClipBlock": "gapclip",
    "GAPMLPBlock": "gapmlp",
    "MLPBlock": "mlp",
}


def cblock(name: str) -> Ref:
    """A classifier block class of the original."""
    return Ref(f"models.classifier_block.{name}")


def _kind(ref: Ref, module: str, kinds: dict[str, str]) -> str:
    prefix, _, name = ref.path.rpartition(".")
    if prefix != module or name not in kinds:
        raise LookupError(f"no counterpart for {ref.path!r}")
    return kinds[name]


def smoothing_keywords(sblock: Ref, block_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keywords of our smoothing blocks; each original takes what it knows and swallows the rest."""
    given = {**dict(sblock.kwargs), **block_kwargs}
    kind = _kind(sblock, "models.smoothing_block", SBLOCKS)
    values: dict[str, Any] = {"sblock": kind}
    values["temp"] = given.get("thr", 6.0) if kind == "relu" else given.get("temp")
    for name in ("sfilter", "pad_mode"):
        if name in given:
            values[name] = given[name]
    return values


def head_keywords(cblock: Ref, block_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keywords of our classifier block."""
    given = {**dict(cblock.kwargs), **block_kwargs}
    kind = _kind(cblock, "models.classifier_block", CBLOCKS)
    return {"cblock": kind, "clip_temp": given.get("temp", 2.0)}


def _residual_block(family: str, kind: str, bottleneck: bool) -> Callable[..., Built]:
    def build(*args: Any, **kwargs: Any) -> Built:
        known: dict[str, Any] = {"in_channels": ..., "channels": ..., "stride": 1}
        known |= {"groups": 1, "width_per_group": 64}
        known |= {"rate": 0.3} if kind == "mcdo" else {}
        known |= {"sd": 0.0}
        known |= {"reduction": 16} if family in GATES else {}
        values = bind(list(args), {k: v for k, v in kwargs.items() if k in known}, **known)
        reduction = values.pop("reduction", 16)
        gate = GATES.get(family)
        values["dropout"] = values.pop("rate", 0.0)
        values["drop_path"] = values.pop("sd")
        return Built(
            ResidualBlock(
                **values,
                bottleneck=bottleneck,
                preact=family == "preresnet",
                gate=None if gate is None else lambda chans: make_gate(gate, chans, reduction),
                shortcut_norm=bottleneck and kind == "mcdo",
            )
        )

    return build


def _conv_unit(family: str, kind: str) -> Callable[..., Built]:
    def build(*args: Any, **kwargs: Any) -> Built:
        alexnet = family == "alexnet"
        known: dict[str, Any] = {"in_channels": ...}
        known |= {"channels": ..., "kernel_size": ..., "stride": 1, "padding": 0} if alexnet else {}
        known |= {} if alexnet else {"out_channels": ...}
        known |= {"rate": 0.1 if alexnet else 0.3} if kind == "mcdo" else {}
        values = bind(list(args), {k: v for k, v in kwargs.items() if k in known}, **known)
        if alexnet:
            values["out_channels"] = values.pop("channels")
        values["dropout"] = values.pop("rate", 0.0)
        norm = {"alexnet": "none", "vggnet": "post", "prevggnet": "pre"}[family]
        return Built(ConvUnit(**values, norm=norm))

    return build


def _block_targets() -> dict[str, Callable[..., Built]]:
    found: dict[str, Callable[..., Built]] = {}
    for kind in ("dnn", "mcdo"):
        for family in RESNETS:
            for name in ("BasicBlock", "Bottleneck"):
                function = _residual_block(family, kind, name == "Bottleneck")
                found[f"models.{family}_{kind}_block.{name}"] = function
        for family in ("alexnet", "vggnet", "prevggnet"):
            found[f"models.{family}_{kind}_block.BasicBlock"] = _conv_unit(family, kind)
    return found


def _mobilenet(**kwargs: Any) -> Built:
    known = {
        "num_classes": 1000,
        "channel": 3,
        "width_mult": 1.0,
        "stem": True,
        "block1": Ref("models.mobilenet.Basic"),
        "block2": Ref("models.mobilenet.Bottleneck"),
        "cblock": cblock("GAPBlock"),
        "name": "mobilenet",
    }
    values = bind([], {k: v for k, v in kwargs.items() if k in known}, **known)
    if values["block1"].path != "models.mobilenet.Basic":
        raise NotImplementedError("another block1 has no counterpart")
    if values["block2"].path != "models.mobilenet.Bottleneck":
        raise NotImplementedError("another block2 has no counterpart")
    head = head_keywords(values["cblock"], {})
    model = MobileNetV2(
        in_chans=values["channel"],
        num_classes=values["num_classes"],
        width_mult=values["width_mult"],
        stem=values["stem"],
        cblock=head["cblock"],
    )
    model.classifier.temp = head["clip_temp"]
    return Built(model)


def _named_mobilenet(
    num_classes: int = 1000, stem: bool = True, name: str = "", **kwargs: Any
) -> Built:
    return _mobilenet(num_classes=num_classes, stem=stem, **kwargs)


def _inverted_residual(expand: bool) -> Callable[..., Built]:
    def build(*args: Any, **kwargs: Any) -> Built:
        known = {"dim_in": ..., "dim_out": ..., "stride": ..., "expand_ratio": ...}
        kwargs = {key: value for key, value in kwargs.items() if key in known}
        return Built(InvertedResidual(**bind(list(args), kwargs, **known), expand=expand))

    return build


def _classifier(kind: str) -> Callable[..., Built]:
    def build(in_features: int, num_classes: int, *args: Any, **kwargs: Any) -> Built:
        known = {"temp": 2.0} if kind == "gapclip" else {}
        kwargs = {key: value for key, value in kwargs.items() if key in known}
        return Built(
            ClassifierBlock(in_features, num_classes, kind, **bind(list(args), kwargs, **known))
        )

    return build


TARGETS: dict[str, Callable[..., Built]] = {
    **_block_targets(),
    "models.mobilenet.MobileNet": _mobilenet,
    "models.mobilenet.dnn": _named_mobilenet,
    "models.mobilenet.Basic": _inverted_residual(expand=False),
    "models.mobilenet.Bottleneck": _inverted_residual(expand=True),
    **{f"models.classifier_block.{name}": _classifier(kind) for name, kind in CBLOCKS.items()},
}
