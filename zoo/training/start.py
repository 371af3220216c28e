"""The network that training starts from: new, or with weights; partly frozen; of another size."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalog._data_sets import BY_NAME
from ..catalog.references import kind_of
from ..catalog.registry import get_record, split_reference
from ..data.folders import part_folders
from ..data.opening import parse_spec
from ..errors import ConfigError, suggestion
from ..factory.building import find_class
from ..factory.create import create_model, create_random
from ..factory.keywords import check_arguments
from .job import Job

if TYPE_CHECKING:
    from torch import nn


BACKBONE = "backbone"


def create_start(job: Job, labels: tuple[str, ...]) -> nn.Module:
    """The job's model for the classes `labels`, in training mode.

    Weights of `finetune_from` keep their classifier if its classes have the same names in the same
    order; else it is new.

    Raises: ConfigError, UnknownModelError, NoWeightsError.
    """
    import torch

    check_name(job.model)
    check_tag(job.model, job.finetune_from)
    source = job.finetune_from or job.model
    architecture = _architecture(job.model)
    settings = _settings(job, architecture, len(labels))
    classes = {"num_classes": len(labels)}
    if not job.finetune_from:
        if _classes_of(job.model) == len(labels):
            classes = {}
        model = create_random(job.model, job.recipe.seed, **settings, **classes)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.recipe.seed)
            model = create_model(source, pretrained=True, **settings, **classes)
            found = model.pretrained_cfg.architecture
            if found != architecture:
                raise ConfigError(
                    f"--finetune-from {source} holds weights of {found}, not of {architecture}; "
                    f"train {found}, or choose other weights"
                )
            if model.pretrained_cfg.labels != labels:
                model.reset_classifier(len(labels))
    cfg = replace(model.pretrained_cfg, labels=labels, tag="", version="", sha256="")
    if job.size is not None:
        cfg = replace(cfg, input=replace(cfg.input, size=job.size))
    model.pretrained_cfg = cfg
    return model.train()


def check_name(model: str) -> None:
    """Raises: ConfigError for what is not trained here."""
    kind = kind_of(model)
    if kind in ("name", "timm"):
        return
    advice = "train it with your own loop, then `convattn export MODEL --weights FILE`"
    if kind in ("directory", "hf-hub"):
        advice = f"to start from its weights, name its architecture and --finetune-from {model}"
    raise ConfigError(
        f"train takes names of `convattn list` and timm:NAME; got {model!r}; {advice}"
    )


def check_tag(model: str, start: str) -> None:
    """Raise ConfigError if `model` names weights by a tag or version, and training does not start
    from them: what is trained would be called after weights that it never saw.

    Args: start: reference of the weights to start from; "": random ones.
    """
    if kind_of(model) != "name" or split_reference(model)[1:] == (None, None):
        return
    if start and kind_of(start) == "name":
        named, taken = get_record(model), get_record(start)
        if (named.name, named.selected) == (taken.name, taken.selected):
            return
    from_what = f"from {start}" if start else "from random weights"
    raise ConfigError(
        f"{model} names weights, but training starts {from_what}; name the architecture, "
        f"{split_reference(model)[0]}, and to start from these finetune_from={model!r} "
        f"(--finetune-from {model})"
    )


def _architecture(model: str) -> str:
    return get_record(model).name if kind_of(model) == "name" else model


def _classes_of(model: str) -> int | None:
    if kind_of(model) != "name":
        return None
    classes = get_record(model).config.get("num_classes", 1000)
    return int(classes)


def _settings(job: Job, architecture: str, classes: int) -> dict[str, Any]:
    """Constructor keywords: the job's, its image size, the recipe's stochastic depth.

    The depth is left out where the model has none: recipes come with one for all models.
    `check_drop_path` refuses one that was asked for. Raises: ConfigError for other classes.
    """
    settings = dict(job.config)
    if settings.pop("num_classes", classes) != classes:
        raise ConfigError(
            f"num_classes={job.config['num_classes']}, but {job.data!r} has {classes} classes; "
            "leave num_classes out: the model takes those of the data"
        )
    known = _keywords(architecture)
    if job.img_size is not None and "img_size" in known:
        settings["img_size"] = job.img_size
    if job.recipe.drop_path is not None and "drop_path_rate" in known:
        settings.setdefault("drop_path_rate", job.recipe.drop_path)
    return settings


def _keywords(architecture: str) -> Collection[str]:
    """Those of the model's constructor; of timm's models, those that all may take."""
    if kind_of(architecture) != "name":
        return ("img_size", "drop_path_rate")
    return inspect.signature(find_class(get_record(architecture).family.builder)).parameters


def check_keywords(model: str, config: Mapping[str, Any]) -> None:
    """Raise what building the model would, as far as its name and its keywords alone tell."""
    check_name(model)
    if kind_of(model) == "name":
        check_arguments(find_class(get_record(model).family.builder), config)


def check_drop_path(model: str, changes: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a stochastic depth that was asked for and would have no effect.

    A recipe's own, which nobody asked for, may go unused in silence.

    Args: changes: of the recipe's fields; config: keywords of the model.
    """
    rate = changes.get("drop_path")
    if rate is None:
        return
    if "drop_path_rate" in config:
        raise ConfigError(
            f"drop_path {rate} has no effect beside the model's keyword drop_path_rate="
            f"{config['drop_path_rate']}; give one of them"
        )
    if rate and "drop_path_rate" not in _keywords(model):
        raise ConfigError(
            f"drop_path {rate} has no effect: {model} has no stochastic depth; leave it out"
        )


def freeze(model: nn.Module, names: tuple[str, ...]) -> tuple[nn.Module, ...]:
    """Take the gradient from parameters, and training mode from the modules that hold only such.

    Args:
        names: of parameters or modules, with everything inside; "backbone" is all but the
            classifier.
    Returns: the modules that stay in eval mode, so that batch norm and dropout stand still.
    Raises: ConfigError for a name that nothing has.
    """
    head = {id(p) for p in model.get_classifier().parameters()} if BACKBONE in names else set()
    known = dict(model.named_parameters())
    places = {name.rsplit(".", n)[0] for name in known for n in range(name.count(".") + 1)}
    for name in set(names) - {BACKBONE} - places - known.keys():
        hint = suggestion(name, places) or "; named_modules() lists them"
        raise ConfigError(f"--freeze {name}: the model has no such part{hint}")
    for name, parameter in known.items():
        inside = any(name == wanted or name.startswith(f"{wanted}.") for wanted in names)
        if inside or (BACKBONE in names and id(parameter) not in head):
            parameter.requires_grad_(False)
    if not names:
        return ()
    return tuple(
        module
        for module in model.modules()
        if not any(p.requires_grad for p in module.parameters()) and not _has_head(module, head)
    )


def _has_head(module: nn.Module, head: set[int]) -> bool:
    return any(id(p) in head for p in module.parameters())


def refuse_in_data(out: str | Path, data: str) -> None:
    """Raises: ConfigError for a directory that would become a class of the folder it lies in."""
    kind, place = parse_spec(data)
    if kind != "folder" or not Path(place).is_dir():
        return
    root, found = Path(place).resolve(), Path(out).resolve()
    parts = [root / folder for folder in part_folders(root).values()] or [root]
    if any(found.is_relative_to(part) for part in parts):
        raise ConfigError(
            f"{out} lies in the data, {place}, and would be one of its classes; choose an --out "
            "beside it",
            code="out",
        )


def tag_of(data: str) -> str:
    """A weights tag for data: "cifar10:DIR" -> "cifar10", "My photos/" -> "my_photos".

    A folder that is called like a data set of ours is not that data set: "old/digits" ->
    "digits_folder".
    """
    if data in BY_NAME:
        return data
    kind, colon, place = data.partition(":")
    name = kind if colon and place else data.replace("\\", "/").rstrip("/").rpartition("/")[2]
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if slug in BY_NAME and not (colon and place):
        slug += "_folder"
    return slug if slug[:1].isalpha() else f"data_{slug}".rstrip("_")
