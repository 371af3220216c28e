"""A blueprint becomes an `nn.Module`: constructor, checks, weights read by digest."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..catalog.records import ModelRecord
from ..catalog.weights_records import InputSpec
from ..errors import ConfigError, NetworkError, ZooError
from ..files.local import sha256_bytes
from ..weights.classifier import without_classifier
from .description import PretrainedCfg
from .keywords import check_arguments

if TYPE_CHECKING:
    import torch
    from torch import nn

    Tensors = Mapping[str, torch.Tensor]

MOST_MODULES = 10_000
"""No model of ours has a fifth of it."""
MOST_PARAMETERS = 1 << 31
"""Four times the largest model's. With weights at hand it is thrice theirs and `_ROOM`."""
_ROOM = 50_000_000


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
        stated: a file says how it is built, so it is built in outline first.
    """

    described: PretrainedCfg
    construct: Callable[[], nn.Module]
    record: ModelRecord | None = None
    read: Callable[[], bytes] | None = None
    what: str = ""
    translate: Callable[[Tensors], Tensors] = lambda tensors: tensors
    adapt: bool = False
    finish: Callable[[nn.Module], nn.Module] = lambda model: model
    stated: bool = False

    def without_classifier(self) -> Blueprint:
        """The same, with features in place of logits."""
        finish = self.finish
        return replace(self, finish=lambda model: without_classifier(finish(model)))


def build(plan: Blueprint, tensors: Tensors | None = None) -> nn.Module:
    """The model of a blueprint, in training mode; `tensors` replace those that it would read.

    Raises: ConfigError for keywords; WeightsFileError, IntegrityError, WeightsMismatchError.
    """
    cfg, digest, unchanged = plan.described, plan.described.sha256, True

    def make(most: int = MOST_PARAMETERS) -> nn.Module:
        bounded = functools.partial(_bounded, plan.construct, cfg.architecture, most)
        if plan.stated:
            from .outline import check_outline

            check_outline(bounded)
        return bounded()

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
            found = read()
            model = make(3 * sum(value.numel() for value in found.values()) + _ROOM)
            unchanged = load_state(model, found, plan.what, adapt=plan.adapt)
        else:
            model, unchanged = construct_loaded(make, read, plan.what, adapt=plan.adapt)
    classes = getattr(model, "num_classes", cfg.num_classes)
    cfg = replace(cfg, num_classes=classes)
    if not unchanged:
        cfg = cfg.changed()
    model.pretrained_cfg = cfg.with_tensors(model, digest) if unchanged and digest else cfg
    return plan.finish(model)


def _bounded(make: Callable[[], nn.Module], what: str, most: int = MOST_PARAMETERS) -> nn.Module:
    """What `make` builds: a number in a small config.json could ask for a network without end.

    Args:
        what: the architecture, for errors.
        most: parameters; the one that exceeds it is refused before it has values.
    Raises: ConfigError for more, for more than `MOST_MODULES` parts, or what the constructor
        objects to.
    """
    from torch.nn.modules.module import (
        register_module_module_registration_hook,
        register_module_parameter_registration_hook,
    )

    def numbers(value: nn.Parameter | None) -> int:
        return 0 if value is None else value.numel()

    with (
        _at_most(MOST_MODULES, "modules", register_module_module_registration_hook, lambda _: 1),
        _at_most(most, "parameters", register_module_parameter_registration_hook, numbers),
        objections(what),
    ):
        return make()


@contextlib.contextmanager
def _at_most(
    most: int, things: str, register: Callable[..., Any], weigh: Callable[[Any], int]
) -> Iterator[None]:
    """Refuse what takes the models of this thread beyond so many things."""
    thread, total = threading.get_ident(), 0

    def count(module: nn.Module, name: str, entry: Any) -> None:
        nonlocal total
        if threading.get_ident() == thread:
            total += weigh(entry)
            if total > most:
                raise ConfigError(
                    f"the model would have more than {most} {things}; give smaller sizes, or a "
                    "smaller depth",
                    code=f"too_many_{things}",
                )

    handle = register(count)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def objections(what: str) -> Iterator[None]:
    """Whatever a constructor raises is a ConfigError that says that `what` cannot be built."""
    try:
        yield
    except (ZooError, MemoryError, ImportError):
        raise
    except Exception as error:
        from http.client import HTTPException
        from urllib.error import URLError

        if isinstance(error, URLError | HTTPException):  # of a library that downloads its weights
            raise NetworkError(
                f"{what} asked for a file that could not be downloaded: {str(error)[:150]}; "
                "`convattn info` says where its weights come from"
            ) from error
        if isinstance(error, OSError):
            raise
        said = " ".join(str(error).split())[:150] or type(error).__name__
        raise ConfigError(f"{what} cannot be built: {said}") from error


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


def construct_at(
    make: Callable[..., nn.Module], keywords: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """What a foreign `make` builds, and of which keywords: without an `img_size` it does not take.

    Such a network takes images of any size; its input alone is described by it.
    """
    taken = dict(keywords)
    try:
        return make(**taken), taken
    except TypeError as error:
        if "img_size" not in taken or "argument 'img_size'" not in str(error):
            raise
    del taken["img_size"]
    return make(**taken), taken


def input_of(spec: InputSpec, config: Mapping[str, Any]) -> InputSpec:
    """The input spec after overrides of the image size and the channels."""
    size = config.get("img_size", spec.size)
    size = tuple(size) if isinstance(size, tuple | list) else (size, size)
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

    Raises: ConfigError that names the nearest keyword or what a keyword takes
        (`zoo.factory.keywords`), or repeats what the constructor objected to.
    """
    cls = find_class(builder)
    check_arguments(cls, config)
    with objections(cls.__name__):
        return cls(**config)


def state_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Shapes of the state dict by key."""
    return {key: value.shape for key, value in model.state_dict().items()}
