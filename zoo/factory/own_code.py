"""Models of one's own: ``py:FILE.py:NAME``, a module class or a function that returns a module.

The file is run because the user named it; nothing else ever names one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalog.weights_records import InputSpec
from ..errors import ConfigError, NotFoundError, NoWeightsError, UnknownModelError, suggestion
from .building import Blueprint, input_of
from .description import PretrainedCfg

if TYPE_CHECKING:
    from torch import nn

_log = logging.getLogger(__name__)
_OTHER_SIZE = "; if it is made for another size, say so: --set img_size=N, or in its pretrained_cfg"


def of_own_code(reference: str, pretrained: bool, overrides: Mapping[str, Any]) -> Blueprint:
    """The blueprint of ``py:FILE.py:NAME``. Errors as `zoo.create_model`.

    A class makes an architecture with random weights; a function returns a module with the weights
    that it gave it. How images are prepared stands in an attribute `pretrained_cfg` of the module:
    `input_size`, `mean`, `std`, `interpolation`, `crop_pct`, `label_names`, as in timm. A keyword
    `img_size` that the code does not take says what size it is for.
    """
    file, _, name = reference.removeprefix("py:").rpartition(":")
    make = _find(reference, file, name)
    if pretrained and isinstance(make, type):
        raise NoWeightsError(
            f"{name} in {file} is a class, which has no weights of its own; name a "
            "function that returns the module with its weights"
        )
    _check_keywords(make, name, overrides)
    headless = overrides.get("num_classes") == 0 and not _takes(make, "num_classes")
    known_size = {k: v for k, v in overrides.items() if k == "img_size" and not _takes(make, k)}
    apart = {*known_size, *(["num_classes"] if headless else [])}
    keywords = {k: v for k, v in overrides.items() if k not in apart}
    described = PretrainedCfg(
        architecture=f"py:{Path(file).name}:{name}",
        architecture_version=1,
        num_classes=0,
        input=InputSpec(),
        tag="own" if pretrained else "",
        model_args=keywords,
    )
    said: dict[str, Any] = {}

    def construct() -> nn.Module:
        model = _call(make, file, name, keywords)
        stated = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
        said["cfg"] = dict(stated) if isinstance(stated, Mapping) else {}
        return model

    def describe(model: Any) -> nn.Module:
        model.pretrained_cfg = _described(model, said["cfg"], keywords | known_size, reference)
        found: nn.Module = model
        return found

    plan = Blueprint(described=described, construct=construct, finish=describe)
    return plan.without_classifier() if headless else plan


def _find(reference: str, file: str, name: str) -> Any:
    """The class or function. Raises: NotFoundError, UnknownModelError, ConfigError."""
    if not file.endswith(".py") or not name.isidentifier():
        raise UnknownModelError(f"{reference!r} names no code; expected py:FILE.py:NAME")
    if not os.path.isfile(file):
        raise NotFoundError(f"no such file: {file!r}; {reference!r} means NAME in FILE.py")
    module = _run(file)
    makers = [
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__
    ]
    if name not in vars(module) or not callable(vars(module)[name]):
        known = ", ".join(makers[:8]) or "nothing that could"
        raise UnknownModelError(
            f"{file} defines no class or function {name!r}{suggestion(name, makers)}; it defines "
            f"{known}"
        )
    found = vars(module)[name]
    if _is_module(found):
        raise ConfigError(
            f"{name} in {file} is a module, not what makes one; name its class, or a function with "
            f"`return {name}`",
            code="own_code",
        )
    return found


def _is_module(value: object) -> bool:
    from torch import nn

    return isinstance(value, nn.Module)


def _run(file: str) -> Any:
    name = f"_convattn_own_{Path(file).stem}"
    spec = importlib.util.spec_from_file_location(name, os.path.abspath(file))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and torch look for the source
    with _reported(file), _beside(file):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _beside(file: str) -> Iterator[None]:
    """Modules beside the file can be imported, after all installed ones."""
    folder = os.path.dirname(os.path.abspath(file))
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


@contextlib.contextmanager
def _reported(what: str, advice: str = "") -> Iterator[None]:
    """Whatever the user's code raises, as one of our errors."""
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines()
        said = f": {lines[0][:160]}" if lines else ""
        raise ConfigError(
            f"{what[-80:]} raised {type(error).__name__}{said}{advice}", code="own_code"
        ) from error


def _takes(make: Any, keyword: str) -> bool:
    parameters = inspect.signature(make).parameters
    return keyword in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _check_keywords(make: Any, name: str, keywords: Mapping[str, Any]) -> None:
    """Raises: ConfigError for a keyword that the code does not take, or one that is missing."""
    parameters = inspect.signature(make).parameters
    for key in keywords:
        if not _takes(make, key) and key not in ("num_classes", "img_size"):
            known = ", ".join(parameters) or "no keyword"
            raise ConfigError(
                f"{name} takes no {key!r}{suggestion(key, list(parameters))}; it takes {known}",
                code="unknown_argument",
            )
    needed = [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    missing = [key for key in needed if key not in keywords]
    if missing:
        raise ConfigError(
            f"{name} needs {', '.join(missing[:5])}; give --set {missing[0]}=VALUE",
            code="missing_argument",
        )


def _call(make: Any, file: str, name: str, keywords: Mapping[str, Any]) -> nn.Module:
    from torch import nn

    with _reported(f"{name} in {file}"), _beside(file):
        model = make(**keywords)
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"{name} in {file} returned {type(model).__name__}; expected a torch.nn.Module",
            code="own_code",
        )
    return model.train()


def _described(
    model: Any, said: Mapping[str, Any], keywords: Mapping[str, Any], reference: str
) -> PretrainedCfg:
    """What the module says of itself, and how many classes it answers with."""
    cfg: PretrainedCfg = model.pretrained_cfg
    spec = input_of(InputSpec.from_dict(said), keywords)
    if "input_size" not in said and "img_size" not in keywords:
        height, width = spec.size
        _log.warning(
            f"{reference} does not say how images are prepared: {height} x {width} pixels and "
            "ImageNet's mean and deviation are assumed (docs/your_own_model.md)"
        )
    labels = tuple(said.get("label_names") or ())
    classes = _count(model, spec, reference)
    if labels and len(labels) != classes:
        raise ConfigError(
            f"{reference} answers with {classes} classes and names {len(labels)} labels",
            code="own_code",
        )
    model.num_classes = classes
    return replace(cfg, input=spec, labels=labels, num_classes=classes)


def _count(model: nn.Module, spec: InputSpec, reference: str) -> int:
    """Width of the logits, by running the model once. Raises: ConfigError."""
    import torch

    first = next(model.parameters(), torch.zeros(()))
    training = model.training
    image = torch.zeros(1, spec.in_chans, *spec.size, device=first.device, dtype=first.dtype)
    try:
        with _reported(f"{reference} on an image of {spec.size[0]} x {spec.size[1]}", _OTHER_SIZE):
            with torch.no_grad():
                answer = model.eval()(image)
    finally:
        model.train(training)
    if not isinstance(answer, torch.Tensor) or answer.ndim != 2:
        shape = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise ConfigError(
            f"{reference} must return logits (batch, classes); it returned {shape}",
            code="own_code",
        )
    return int(answer.shape[1])
