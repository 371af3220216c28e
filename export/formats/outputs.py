"""What of a model an exported file returns: logits, embeddings, features, attention.

Names of outputs are what readers of the file look for. `logits` and `pooler_output` are
transformers' names, which transformers.js reads in image classification and in image feature
extraction (`pool: true`). Maps from inside are `features.MODULE` and `attentions.MODULE`, with the
module's name as in `feature_info`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from zoo.errors import ExportError

from ..spec import OUTPUT_NAME

EMBEDDING_NAME = "pooler_output"


@dataclass(frozen=True)
class Form:
    """A module to export with the names of its outputs.

    Args:
        module: returns a tensor, or as many tensors as there are outputs.
        outputs: their names, in order.
    """

    module: nn.Module
    outputs: tuple[str, ...]


def own_form(model: Any) -> Form:
    """A model as it is: logits; embeddings without a classifier; maps where it returns a list."""
    if getattr(model, "features_only", False) or type(model).__name__ == "FeatureNet":
        info = model.feature_info
        chosen = info.get("module") if hasattr(info, "get") else [e["module"] for e in info]
        return Form(model, tuple(f"features.{name}" for name in chosen))
    embeds = getattr(model, "num_classes", None) == 0
    return Form(model, (EMBEDDING_NAME if embeds else OUTPUT_NAME,))


def form_with(model: Any, extras: Sequence[str]) -> Form:
    """A model that returns more of itself, in one pass.

    Args:
        extras: of `EXTRAS`. With "features" the last map of every resolution (FCViT: of every
            stage) is returned too, with "attention" the matrices of every layer that has
            `attention_weights`; with "embeddings" all that is of a copy without its classifier.
    Raises: ExportError for a model that has no such thing.
    """
    if "embeddings" in extras:
        model = _without_classifier(model)
    outputs = own_form(model).outputs
    indices: list[int] = []
    layers: list[str] = []
    if "features" in extras:
        indices, names = _feature_maps(model)
        outputs += tuple(f"features.{name}" for name in names)
    if "attention" in extras:
        layers = _attention_layers(model)
        outputs += tuple(f"attentions.{name}" for name in layers)
    if not indices and not layers:
        return Form(model, outputs)
    return Form(Seen(model, partial(_look, indices=indices, layers=layers)), outputs)


def _without_classifier(model: Any) -> Any:
    model = copy.deepcopy(model)
    if not hasattr(model, "reset_classifier"):
        raise ExportError(f"{type(model).__name__} has no reset_classifier, so no embeddings")
    model.reset_classifier(0)
    return model


def _feature_maps(model: Any) -> tuple[list[int], list[str]]:
    """Numbers and modules of the maps."""
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "head_name"):
        raise ExportError(f"{type(model).__name__} has no feature_info that says what to return")
    from zoo.models._views import last_of_each_resolution

    indices = last_of_each_resolution(model.feature_info)
    return indices, [model.feature_info[index]["module"] for index in indices]


def _attention_layers(model: nn.Module) -> list[str]:
    """Outermost modules with a method `attention_weights`."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if hasattr(module, "attention_weights") and not inside:
            found.append(name)
    if not found:
        raise ExportError(
            f"{type(model).__name__} has no layer with attention matrices (attention_weights)"
        )
    return found


def _look(model: Any, x: Tensor, indices: list[int], layers: list[str]) -> tuple[Tensor, ...]:
    """What a model returns, then its maps, then its attention matrices."""
    weights: dict[str, Tensor] = {}

    def note(name: str, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        weights[name] = module.attention_weights(*args, **kwargs)

    modules = dict(model.named_modules())
    handles = [
        modules[name].register_forward_pre_hook(partial(note, name), with_kwargs=True)
        for name in layers
    ]
    try:
        seen = _with_features(model, x, indices) if indices else (model(x),)
    finally:
        for handle in handles:
            handle.remove()
    return (*seen, *(_per_image(weights[name], x.shape[0]) for name in layers))


def _with_features(model: Any, x: Tensor, indices: list[int]) -> tuple[Tensor, ...]:
    last, maps = model.forward_intermediates(x, indices)
    return (model.forward_head(last), *maps)


def _per_image(weights: Tensor, batch: int) -> Tensor:
    """Windows of an image come as rows of the batch; (B * n, nh, N, N) -> (B, n, nh, N, N)."""
    return weights if weights.shape[0] == batch else weights.unflatten(0, (batch, -1))


class Seen(nn.Module):
    """forward(x) = look(model, x). `look` must not be bound to the model: copies are exported."""

    def __init__(self, model: nn.Module, look: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.model = model
        self.look = look
        self.feature_info = getattr(model, "feature_info", None)

    def forward(self, x: Tensor) -> Any:
        return self.look(self.model, x)
