"""timm 0.5.4 classes, built with the installed timm: goldens/CONSTRUCTORS section 5.

The published CIFAR-100 checkpoints of how-do-vits-work are timm 0.5.4 models. Since then PiT's
pools and Swin's patch merging moved from the end of a stage to the start of the next one, Swin's
head became `head.fc`, its masks and index tables left the state dict, and its maps stay maps
(B, H, W, C).
"""

from __future__ import annotations

import functools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from . import Built, Ref, bind, expect


class _Result(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]


class _Tokens(nn.Module):
    """What timm 0.5.4 returned from a module: a map (B, H, W, C) as tokens (B, N, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1, 2)


class Layout(nn.Module):
    """A model of today's timm under the state-dict keys and module paths of 0.5.4.

    Args:
        model: the model.
        keys: key in 0.5.4 -> name of the parameter or buffer today, in 0.5.4's order.
        path: module path in 0.5.4 -> module path today, for paths that changed.
        tokens: module paths today whose output is a map instead of tokens.
    """

    def __init__(
        self,
        model: nn.Module,
        keys: dict[str, str],
        path: Callable[[str], str] = lambda path: path,
        tokens: str = "(?!)",
    ) -> None:
        super().__init__()
        self.model = model
        self.keys = keys
        self.path = path
        self.taps = {p: _Tokens() for p, _ in model.named_modules() if re.fullmatch(tokens, p)}

    def state_dict(self) -> dict[str, torch.Tensor]:
        values = dict([*self.model.named_parameters(), *self.model.named_buffers()])
        return {old: values[new].detach() for old, new in self.keys.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor], strict: bool = True) -> _Result:
        missing = [key for key in self.keys if key not in state]
        unexpected = [key for key in state if key not in self.keys]
        assert not (strict and (missing or unexpected))
        kept = self.model.state_dict().keys()  # without today's non-persistent buffers
        renamed = {self.keys[key]: value for key, value in state.items() if key in self.keys}
        renamed = {key: value for key, value in renamed.items() if key in kept}
        self.model.load_state_dict(renamed, strict=True)
        return _Result(missing, unexpected)

    def named_modules(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Module]]:
        today = dict(self.model.named_modules())
        for old in dict.fromkeys([*today, *(key.rpartition(".")[0] for key in self.keys)]):
            new = self.path(old)
            if new in today:
                yield old, self.taps.get(new, today[new])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def show(tap: nn.Module) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
                tap(output)

            return hook

        modules = dict(self.model.named_modules())
        handles = [modules[p].register_forward_hook(show(tap)) for p, tap in self.taps.items()]
        try:
            return self.model(x)
        finally:
            for handle in handles:
                handle.remove()


def _norm(norm_layer: Ref | None) -> Any:
    if norm_layer is None:
        return None
    if not norm_layer.path.endswith("LayerNorm"):
        raise NotImplementedError(f"norm_layer {norm_layer.path} has no counterpart")
    return functools.partial(nn.LayerNorm, **dict(norm_layer.kwargs))


_RATES = ("drop_rate", "attn_drop_rate", "drop_path_rate")  # without effect in eval


def _vision_transformer(*args: Any, **kwargs: Any) -> Built:
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    known = {"img_size": 224, "patch_size": 16, "in_chans": 3, "num_classes": 1000}
    known |= {"embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0, "qkv_bias": True}
    known |= {"representation_size": None, "distilled": False, **dict.fromkeys(_RATES, 0.0)}
    known |= {"embed_layer": None, "norm_layer": None, "act_layer": None, "weight_init": ""}
    values = bind(list(args), kwargs, **known)
    expect(values, embed_layer=None)
    for name in (*_RATES, "weight_init"):
        values.pop(name)
    values["norm_layer"] = _norm(values["norm_layer"])
    if values["act_layer"] is not None:
        values["act_layer"] = getattr(nn, values["act_layer"].path.rpartition(".")[2])
    distilled, width = values.pop("distilled"), values.pop("representation_size")
    model = (VisionTransformerDistilled if distilled else VisionTransformer)(**values)
    if width and not distilled:
        layers = OrderedDict(fc=nn.Linear(values["embed_dim"], width), act=nn.Tanh())
        layers["head"] = nn.Linear(width, values["num_classes"])
        model.head = nn.Sequential(layers)
    keys = {
        re.sub(r"^head\.fc\.", "pre_logits.fc.", key).replace("head.head.", "head."): key
        for key in model.state_dict()
    }
    if distilled:
        first = ("cls_token", "dist_token", "pos_embed")
        keys = {key: key for key in dict.fromkeys((*first, *keys))}
    return Built(Layout(model, keys))


def _pit(*args: Any, **kwargs: Any) -> Built:
    from timm.models.pit import PoolingVisionTransformer

    known = dict.fromkeys(("img_size", "patch_size", "stride", "base_dims", "depth", "heads"), ...)
    known |= {"mlp_ratio": ..., "num_classes": 1000, "in_chans": 3, "distilled": False}
    known |= {"attn_drop_rate": 0.0, "drop_rate": 0.0, "drop_path_rate": 0.0}
    values = bind(list(args), kwargs, **known)
    for name in _RATES:
        values.pop(name)
    model = PoolingVisionTransformer(**values)
    today = list(model.state_dict())

    def stage(key: str) -> tuple[int, int, int]:
        """Sort key: own parameters, embedding, stages with the pool at the end, rest."""
        match = re.match(r"transformers\.(\d+)\.(pool)?", key)
        if match is None:
            order = ("pos_embed", "cls_token", "patch_embed", "transformers", "norm", "head")
            return order.index(next(name for name in order if key.startswith(name))), 0, 0
        return 3, int(match[1]) - bool(match[2]), bool(match[2])

    def old(key: str) -> str:
        return re.sub(r"(?<=^transformers\.)\d+(?=\.pool)", lambda m: str(int(m[0]) - 1), key)

    keys = {old(key): key for key in sorted(today, key=stage)}
    path = _end_of_stage("transformers", "pool", len(model.transformers) - 1)
    return Built(Layout(model, keys, path))


def _end_of_stage(stages: str, part: str, last: int) -> Callable[[str], str]:
    """What ended a stage in 0.5.4, and so its output, starts the next stage today."""

    def path(name: str) -> str:
        match = re.fullmatch(rf"{stages}\.(\d+)(\.{part}.*)?", name)
        if match is None or (match[2] is None and int(match[1]) == last):
            return name
        return f"{stages}.{int(match[1]) + 1}{match[2] or '.' + part}"

    return path


def _swin_keys(model: nn.Module) -> dict[str, str]:
    """0.5.4's keys in order: masks and indices included, merging at the end of the stage."""
    today = list(model.state_dict())
    keys = {key: key for key in today if key.startswith("patch_embed.")}
    for i, layer in enumerate(model.layers):
        for j, block in enumerate(layer.blocks):
            prefix = f"layers.{i}.blocks.{j}."
            if block.attn_mask is not None:
                keys[f"{prefix}attn_mask"] = f"{prefix}attn_mask"
            for key in (key for key in today if key.startswith(prefix)):
                keys[key] = key
                if key.endswith("relative_position_bias_table"):
                    index = key.replace("bias_table", "index")
                    keys[index] = index
        for name in ("reduction.weight", "norm.weight", "norm.bias"):
            key = f"layers.{i + 1}.downsample.{name}"
            if key in today:
                keys[f"layers.{i}.downsample.{name}"] = key
    keys |= {key: key for key in today if key.startswith("norm.")}
    keys |= {key.replace("head.fc.", "head."): key for key in today if key.startswith("head.")}
    return keys


def _swin(*args: Any, **kwargs: Any) -> Built:
    from timm.models.swin_transformer import SwinTransformer

    known = {"img_size": 224, "patch_size": 4, "in_chans": 3, "num_classes": 1000, "embed_dim": 96}
    known |= {"depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24), "window_size": 7}
    known |= {"mlp_ratio": 4.0, "qkv_bias": True, "drop_rate": 0.0, "attn_drop_rate": 0.0}
    known |= {"drop_path_rate": 0.1, "norm_layer": Ref("torch.nn.LayerNorm"), "ape": False}
    known |= {"patch_norm": True, "use_checkpoint": False, "weight_init": ""}
    kwargs = {key: value for key, value in kwargs.items() if key in known}  # others are swallowed
    values = bind(list(args), kwargs, **known)
    expect(values, ape=False)
    for name in (*_RATES, "use_checkpoint", "weight_init"):
        values.pop(name)
    if not isinstance(values["img_size"], int) and len(set(values["img_size"])) > 1:
        raise NotImplementedError("0.5.4 chose windows differently on oblong maps")
    patch_norm = values.pop("patch_norm")
    model = SwinTransformer(**{**values, "norm_layer": _norm(values["norm_layer"])})
    if not patch_norm:
        model.patch_embed.norm = nn.Identity()
    moved = _end_of_stage("layers", "downsample", len(model.layers) - 1)

    def path(name: str) -> str:
        return "head.fc" if name == "head" else moved(name)

    maps = r"patch_embed|norm|layers(\.\d+(\.blocks\.\d+|\.downsample)?)?"
    return Built(Layout(model, _swin_keys(model), path, maps))


TARGETS: dict[str, Callable[..., Built]] = {
    "timm.models.vision_transformer.VisionTransformer": _vision_transformer,
    "timm.models.pit.PoolingVisionTransformer": _pit,
    "timm.models.swin_transformer.SwinTransformer": _swin,
}
