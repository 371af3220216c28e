"""AlterNet and its attention layers, how-do-vits-work: goldens/CONSTRUCTORS sections 2.4 and 3."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import nn

from zoo.layers.attention import Attention2d
from zoo.layers.windows import AttentionBlock, LocalAttention
from zoo.models.alternet import AlterNet, Stem, plan

from . import Built, Ref, bind, expect
from .hdvw_cnn import head_keywords
from .hdvw_layers import _torch_class

_CONV = re.compile(
    r"models\.(?P<family>(pre|se|cbam)?resnet)_(?P<kind>dnn|mcdo)_block"
    r"\.(?P<name>BasicBlock|Bottleneck)"
)
_GATES = {"seresnet": "se", "cbamresnet": "cbam"}
_ATTENTION = {  # preact, expansion
    "models.alternet.AttentionBlockA": (False, 4),
    "models.alternet.AttentionBlockB": (True, 4),
    "models.alternet.AttentionBasicBlockA": (False, 1),
    "models.alternet.AttentionBasicBlockB": (True, 1),
}
_STEMS = {"models.alternet.StemA": True, "models.alternet.StemB": False}  # norm
_NORM = Ref("torch.nn.BatchNorm2d")
_GELU = Ref("torch.nn.GELU")
_BLOCK = {
    "heads": 8,
    "dim_head": 64,
    "dropout": 0.0,
    "sd": 0.0,
    "stride": 1,
    "window_size": 7,
    "k": 1,
    "norm": _NORM,
    "activation": _GELU,
}


def _replace(block: AttentionBlock, norm: Ref, activation: Ref) -> None:
    """Put another norm or activation where the original's arguments go; ours are the paper's."""
    if activation != _GELU:
        holder, name = (block, "act") if block.preact else (block.conv, "2")
        setattr(holder, name, _torch_class(activation)())
    if norm != _NORM:
        for name in ("norm1", "norm2") if block.preact else ("norm",):
            setattr(block, name, _torch_class(norm)(getattr(block, name).num_features))


def _conv_keywords(ref: Ref, given: dict[str, Any]) -> dict[str, Any]:
    """Our keywords for a residual block of the original with the entries it knows of `given`."""
    match = _CONV.fullmatch(ref.path)
    if match is None:
        raise LookupError(f"no counterpart for the block {ref.path!r}")
    given = {**dict(ref.kwargs), **given}
    keywords = {key: given[key] for key in ("groups", "width_per_group") if key in given}
    keywords |= {"bottleneck": match["name"] == "Bottleneck", "block": match["kind"]}
    keywords |= {"preact": match["family"] == "preresnet", "mc_rate": given.get("rate", 0.3)}
    if match["family"] in _GATES:
        keywords |= {"gate": _GATES[match["family"]], "reduction": given.get("reduction", 16)}
    return keywords


def _attention_keywords(ref: Ref, given: dict[str, Any]) -> dict[str, Any]:
    """The same for an attention block."""
    given = {**_BLOCK, **dict(ref.kwargs), **given}
    if given["k"] != 1:
        raise ValueError("the original's LocalAttention fails for k > 1")
    return {
        "attn_preact": _ATTENTION[ref.path][0],
        "head_dim": given["dim_head"],
        "window_size": given["window_size"],
        "drop_rate": given["dropout"],
    }


def _alternet(*args: Any, **kwargs: Any) -> Built:
    known = {
        "block1": ...,
        "block2": ...,
        "num_blocks": ...,
        "num_blocks2": ...,
        "heads": ...,
        "cblock": Ref("models.classifier_block.BNGAPBlock"),
        "sd": 0.0,
        "num_classes": 10,
        "stem": Ref("models.alternet.StemB"),
        "name": "alternet",
    }
    if len(args) > 2:
        raise TypeError("takes two positional arguments")
    rest = {key: kwargs.pop(key) for key in list(kwargs) if key not in known}
    if "stride" in rest:
        raise TypeError("stride is set by the original builder")
    values = bind(list(args), kwargs, **known)
    conv, attention, stem = values["block1"], values["block2"], values["stem"]
    keywords = _conv_keywords(conv, rest)
    if (_ATTENTION[attention.path][1] == 4) != keywords["bottleneck"]:
        raise ValueError("the original needs blocks of the same expansion")
    model = AlterNet(
        num_classes=values["num_classes"],
        stages=plan(values["num_blocks"], values["num_blocks2"], truncate=True),
        heads=values["heads"],
        stem_norm=_STEMS[stem.path],
        stem_pool=dict(stem.kwargs).get("pool", True),
        drop_path_rate=values["sd"],
        **keywords,
        **_attention_keywords(attention, rest),
        **head_keywords(values["cblock"], rest),
    )
    given = {**_BLOCK, **dict(attention.kwargs), **rest}
    for block in model.modules():
        if isinstance(block, AttentionBlock):
            _replace(block, given["norm"], given["activation"])
    return Built(model)


_SIZES = {
    18: ((2, 2, 2, 2), (0, 1, 1, 1)),
    34: ((3, 4, 6, 4), (0, 1, 3, 2)),
    50: ((3, 4, 6, 4), (0, 1, 3, 2)),
    101: ((3, 4, 23, 4), (0, 1, 3, 2)),
    152: ((3, 8, 36, 4), (0, 1, 3, 2)),
}


def _named(depth: int) -> Callable[..., Built]:
    def build(num_classes: int = 1000, stem: bool = True, name: str = "", **kwargs: Any) -> Built:
        basic = depth < 50
        num_blocks, num_blocks2 = _SIZES[depth]
        return _alternet(
            Ref(f"models.preresnet_dnn_block.{'BasicBlock' if basic else 'Bottleneck'}"),
            Ref(f"models.alternet.Attention{'Basic' if basic else ''}BlockB"),
            num_blocks=num_blocks,  # given twice is a TypeError, as it is there
            num_blocks2=num_blocks2,
            heads=(3, 6, 12, 24),
            num_classes=num_classes,
            stem=Ref("models.alternet.StemB", (("pool", stem),)),
            **kwargs,
        )

    return build


def _attention_block(preact: bool, expansion: int) -> Callable[..., Built]:
    def build(dim_in: int, dim_out: int | None = None, **kwargs: Any) -> Built:
        kwargs = {key: value for key, value in kwargs.items() if key in _BLOCK}
        values = bind([], kwargs, **_BLOCK)
        expect(values, k=1)
        norm, activation = values.pop("norm"), values.pop("activation")
        block = AttentionBlock(
            dim_in,
            dim_out or dim_in,
            values["stride"],
            expansion,
            preact,
            num_heads=values["heads"],
            head_dim=values["dim_head"],
            window_size=values["window_size"],
            dropout=values["dropout"],
            drop_path=values["sd"],
        )
        _replace(block, norm, activation)
        return Built(block)

    return build


def _stem(norm: bool) -> Callable[..., Built]:
    def build(*args: Any, **kwargs: Any) -> Built:
        values = bind(list(args), kwargs, dim_in=..., dim_out=..., pool=True)
        return Built(Stem(**values, norm=norm))

    return build


def _call(module: nn.Module, x: Any, mask: Any = None) -> tuple[Any, Any]:
    return module(x, mask), module.attention_weights(x, mask)


def _attention(cls: type[nn.Module], **known: Any) -> Callable[..., Built]:
    def build(dim_in: int, dim_out: int | None = None, **kwargs: Any) -> Built:
        values = bind([], kwargs, **known)
        if cls is LocalAttention:
            expect(values, k=1)
        else:
            values["kv_stride"] = values.pop("k")
        values |= {"num_heads": values.pop("heads"), "head_dim": values.pop("dim_head")}
        return Built(cls(dim_in, dim_out, **values), call=_call)

    return build


TARGETS = {
    **{f"models.alternet.dnn_{depth}": _named(depth) for depth in _SIZES},
    "models.alternet.AlterNet": _alternet,
    **{path: _attention_block(*form) for path, form in _ATTENTION.items()},
    **{path: _stem(norm) for path, norm in _STEMS.items()},
    "models.alternet.LocalAttention": _attention(
        LocalAttention, window_size=7, k=1, heads=8, dim_head=32, dropout=0.0
    ),
    "models.attentions.Attention2d": _attention(
        Attention2d, heads=8, dim_head=64, dropout=0.0, k=1
    ),
}
