"""What of a model an exported file returns: logits, embeddings, features, attention.

Names of outputs are what readers of the file look for. `logits` and `pooler_output` are
transformers' names, which transformers.js reads in image classification and in image feature
extraction (`pool: true`). Maps from inside are `features.MODULE` and `attentions.MODULE`, with the
module's name as in `feature_info`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
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


def embedding_form(model: Any) -> Form:
    """A copy without its classifier. Raises: ExportError for a model that cannot lose it."""
    model = copy.deepcopy(model)
    if not hasattr(model, "reset_classifier"):
        raise ExportError(f"{type(model).__name__} has no reset_classifier, so no embeddings")
    model.reset_classifier(0)
    return Form(model, (EMBEDDING_NAME,))


def feature_form(model: Any) -> Form:
    """Logits, and the last feature of every resolution (FCViT: of every stage)."""
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "head_name"):
        raise ExportError(f"{type(model).__name__} has no feature_info that says what to return")
    from zoo.models._views import last_of_each_resolution

    indices = last_of_each_resolution(model.feature_info)
    names = [model.feature_info[index]["module"] for index in indices]
    module = _seen(model, partial(_with_features, indices=indices))
    return Form(module, (*own_form(model).outputs, *(f"features.{name}" for name in names)))


def _with_features(model: Any, x: Tensor, indices: list[int]) -> tuple[Tensor, ...]:
    last, maps = model.forward_intermediates(x, indices)
    return (model.forward_head(last), *maps)


def attention_form(model: nn.Module) -> Form:
    """Logits, and the attention matrices of every layer that has `attention_weights`.

    Raises: ExportError for a model without such layers.
    """
    layers = _attention_layers(model)
    if not layers:
        raise ExportError(
            f"{type(model).__name__} has no layer with attention matrices (attention_weights)"
        )
    module = _seen(model, partial(_with_attention, names=layers))
    return Form(module, (*own_form(model).outputs, *(f"attentions.{name}" for name in layers)))


def _attention_layers(model: nn.Module) -> list[str]:
    """Outermost modules with a method `attention_weights`."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if hasattr(module, "attention_weights") and not inside:
            found.append(name)
    return found


def _with_attention(model: nn.Module, x: Tensor, names: list[str]) -> tuple[Tensor, ...]:
    weights: dict[str, Tensor] = {}

    def note(name: str, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        weights[name] = module.attention_weights(*args, **kwargs)

    modules = dict(model.named_modules())
    handles = [
        modules[name].register_forward_pre_hook(partial(note, name), with_kwargs=True)
        for name in names
    ]
    try:
        logits = model(x)
    finally:
        for handle in handles:
            handle.remove()
    return (logits, *(_per_image(weights[name], x.shape[0]) for name in names))


def _per_image(weights: Tensor, batch: int) -> Tensor:
    """Windows of an image come as rows of the batch; (B * n, nh, N, N) -> (B, n, nh, N, N)."""
    return weights if weights.shape[0] == batch else weights.unflatten(0, (batch, -1))


def _seen(model: nn.Module, look: Any) -> nn.Module:

    return Seen(model, look)


class Seen(nn.Module):
    """forward(x) = look(model, x). `look` must not be bound to the model: copies are exported."""

    def __init__(self, model: nn.Module, look: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.model = model
        self.look = look
        self.feature_info = getattr(model, "feature_info", None)

    def forward(self, x: Tensor) -> Any:
        return self.look(self.model, x)
