"""Models that torchvision builds: ``torchvision:NAME``, its classifiers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..catalog.weights_records import InputSpec
from ..errors import (
    ConfigError,
    MissingDependencyError,
    NoWeightsError,
    UnknownModelError,
    suggestion,
)
from ..weights.classifier import classes_of
from .building import Blueprint, construct_at, input_of
from .description import PretrainedCfg

if TYPE_CHECKING:
    from torch import nn


def of_torchvision(reference: str, pretrained: bool, overrides: Mapping[str, Any]) -> Blueprint:
    """The blueprint of ``torchvision:NAME``. Errors as `zoo.create_model`.

    torchvision publishes its weights as pickles at another address, so they must be imported.
    """
    try:
        from torchvision import models
    except ImportError:
        raise MissingDependencyError(
            f"{reference!r} needs torchvision; pip install torchvision"
        ) from None
    name, known = reference.removeprefix("torchvision:"), models.list_models(module=models)
    if name not in known:
        raise UnknownModelError(
            f"torchvision has no classifier {name!r}{suggestion(name, known)}; "
            "torchvision.models.list_models(module=torchvision.models) lists all"
        )
    weights = models.get_model_weights(name).DEFAULT
    if pretrained:
        raise NoWeightsError(
            f"the weights of {reference} must be imported first: download them from {weights.url}, "
            f"run `convattn import FILE --model {reference} --out DIR`, and use DIR as the model",
            code="import_first",
        )
    keywords = dict(overrides)
    headless = keywords.get("num_classes") == 0
    if headless:
        del keywords["num_classes"]
    described = PretrainedCfg(
        architecture=reference,
        architecture_version=1,
        num_classes=keywords.get("num_classes", 1000),
        input=input_of(_input_of(weights.transforms()), overrides),
        model_args=keywords,
    )
    make = functools.partial(_construct, name, keywords)
    plan = Blueprint(described=described, construct=make)
    return plan.without_classifier() if headless else plan


def _construct(name: str, keywords: Mapping[str, Any]) -> nn.Module:
    import warnings

    from torchvision import models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how two of them will be initialised one day
        make = functools.partial(models.get_model, name, weights=None)
        if name.startswith("vit_") and "img_size" in keywords:  # the only ones made for a size
            height, width = input_of(InputSpec(), keywords).size
            if height != width:
                raise ConfigError(f"{name} takes square images; got {height} x {width}")
            keywords = {**keywords, "image_size": height}
        model, _ = construct_at(make, keywords)
    model.num_classes = classes_of(model)  # type: ignore[assignment]
    return model


def _input_of(transform: Any) -> InputSpec:
    """The preprocessing that torchvision states with its weights."""
    size, resized = transform.crop_size[0], transform.resize_size[0]
    return InputSpec(
        size=(size, size),
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        interpolation=transform.interpolation.value,
        crop_pct=min(1.0, size / resized),
    )
