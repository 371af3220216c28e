"""A blueprint becomes an `nn.Module`: constructor, checks, weights read by digest."""

from __future__ import annotations

import functools
import importlib
import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..catalog.records import ModelRecord
from ..catalog.weights_records import InputSpec
from ..errors import ConfigError
from ..files.local import sha256_bytes
from ..weights.classifier import without_classifier
from .description import PretrainedCfg
from .keywords import check_arguments

if TYPE_CHECKING:
    import torch
    from torch import nn

    Tensors = Mapping[str, torch.Tensor]

MOST_MODULES = 20_000
"""No model of ours has a tenth of it."""


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """How a model is built and from which bytes: what every reference is resolved to.

    Args:
        described: what the model will say of itself.
        construct: makes the module, with random weights.
        record: in the registry; None for a model that others wrote.
        read: the verified bytes of its safetensors file; None: its weights stay random.
        what: what errors call that file.
        translate: its tensors -> the same under the names of the model.
        adapt: the weights may be fitted as `zoo.create_model` documents.
        finish: what is done to the module at the end.
    """

    described: PretrainedCfg
    construct: Callable[[], nn.Module]
    record: ModelRecord | None = None
    read: Callable[[], bytes] | None = None
    what: str = ""
    translate: Callable[[Tensors], Tensors] = lambda tensors: tensors
    adapt: bool = False
    finish: Callable[[nn.Module], nn.Module] = lambda model: model

    def without_classifier(self) -> Blueprint:
        """The same, with features in place of logits."""
        finish = self.finish
        return replace(self, finish=lambda model: without_classifier(finish(model)))


def build(plan: Blueprint, tensors: Tensors | None = None) -> nn.Module:
    """The model of a blueprint, in training mode; `tensors` replace those that it would read.

    Raises: ConfigError for keywords; WeightsFileError, IntegrityError, WeightsMismatchError.
    """
    cfg, digest, unchanged = plan.described, plan.described.sha256, True
    make = functools.partial(_bounded, plan.construct)

    def read() -> Tensors:
        from ..weights.safetensors_file import read_tensors

        nonlocal digest
        if tensors is not None or plan.read is None:
            return tensors or {}
        data = plan.read()
        digest = digest or sha256_bytes(data)
        return plan.translate(read_tensors(data, plan.what))

    if tensors is None and plan.read is None:
        model = make()
    else:
        from ..weights.loading import construct_loaded, load_state

        if plan.record is None:  # the constructors of others may need values
            model = make()
            unchanged = load_state(model, read(), plan.what, adapt=plan.adapt)
        else:
            model, unchanged = construct_loaded(make, read, plan.what, adapt=plan.adapt)
    classes = getattr(model, "num_classes", cfg.num_classes)
    model.pretrained_cfg = replace(cfg, num_classes=classes, sha256=digest if unchanged else "")
    return plan.finish(model)


def _bounded(make: Callable[[], nn.Module]) -> nn.Module:
    """What `make` builds. Raises: ConfigError once it has more than `MOST_MODULES` parts: a number
    in a small config.json could ask for a network without end.
    """
    from torch.nn.modules.module import register_module_module_registration_hook

    thread, parts = threading.get_ident(), 0

    def count(module: nn.Module, name: str, part: nn.Module | None) -> None:
        nonlocal parts
        if threading.get_ident() != thread:
            return
        parts += 1
        if parts > MOST_MODULES:
            raise ConfigError(
                f"the model would have more than {MOST_MODULES} modules; give a smaller depth",
                code="too_many_modules",
            )

    hook = register_module_module_registration_hook(count)
    try:
        return make()
    finally:
        hook.remove()


def at_training_size(
    record: ModelRecord, trained: Mapping[str, Any], overrides: Mapping[str, Any]
) -> Mapping[str, Any]:
    """`overrides`; with another image size, also the one of the weights, for models that ask.

    ConViT's reach refers to it under ``position_scaling="image"``.
    """
    if "img_size" not in overrides or "base_img_size" in trained:
        return overrides
    if "base_img_size" not in inspect.signature(find_class(record.family.builder)).parameters:
        return overrides
    size = {**record.config, **trained}.get("img_size", record.input.size)
    return {"base_img_size": size, **overrides}


def input_of(spec: InputSpec, config: Mapping[str, Any]) -> InputSpec:
    """The input spec after overrides of the image size and the channels."""
    size = config.get("img_size", spec.size)
    size = (size, size) if isinstance(size, int) else tuple(size)
    chans = config.get("in_chans", spec.in_chans)
    if chans == spec.in_chans:
        return replace(spec, size=size)
    grey = lambda values: (sum(values) / len(values),) * chans  # noqa: E731
    return replace(spec, size=size, in_chans=chans, mean=grey(spec.mean), std=grey(spec.std))


@functools.cache
def find_class(builder: str) -> type[nn.Module]:
    """``"module:Class"`` inside `zoo.models` -> the class, imported relatively."""
    module, _, name = builder.partition(":")
    return getattr(importlib.import_module(f"..models.{module}", __package__), name)


def construct(builder: str, config: Mapping[str, Any]) -> nn.Module:
    """Call a model's constructor with checked keywords.

    Raises: ConfigError that names the nearest keyword or what a keyword takes (`zoo.arguments`), or
        repeats what the constructor objected to.
    """
    cls = find_class(builder)
    check_arguments(cls, config)
    try:
        return cls(**config)
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise ConfigError(f"{cls.__name__} cannot be built: {error}") from error


def state_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Shapes of the state dict by key."""
    return {key: value.shape for key, value in model.state_dict().items()}
