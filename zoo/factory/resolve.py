"""A reference becomes a `Blueprint`: the only place that knows how each kind of reference is built.

Nothing is built, and no weights are read: ``build(resolve(...))`` does that.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..catalog.arguments import as_text, check_flags
from ..catalog.records import ModelRecord
from ..catalog.references import kind_of
from ..catalog.registry import get_record, split_reference
from ..catalog.tables import read_labels
from ..catalog.weights_records import WeightsRecord
from ..errors import ConfigError, IncompatibleWeightsError, IntegrityError, NoWeightsError
from ..files.fetch import fetch
from ..files.local import sha256_bytes
from ..files.places import WEIGHTS, Directory, Repository
from .building import Blueprint, at_training_size, construct, input_of
from .config_json import (
    architecture_of,
    check_version,
    read_config,
    restored_cfg,
    trained_arguments,
)
from .description import PretrainedCfg
from .own_code import of_own_code
from .timm_models import of_timm
from .torchvision_models import of_torchvision
from .transformers_models import of_stored_transformers, of_transformers

Overrides = Mapping[str, Any]
Reference = str | os.PathLike[str]
Place = Directory | Repository


def resolve(
    reference: Reference, pretrained: bool = False, overrides: Overrides | None = None
) -> Blueprint:
    """The blueprint of any model reference. Arguments and errors: as `zoo.create_model`."""
    reference, keywords = as_text(reference, "a model reference"), dict(overrides or {})
    check_flags(_name_the_tag(reference, pretrained), pretrained=pretrained)
    check_flags(features_only=keywords.get("features_only", False))
    kind = kind_of(reference)
    if kind in _OTHERS:
        return _OTHERS[kind](reference, pretrained, keywords)
    features, indices = keywords.pop("features_only", False), keywords.pop("out_indices", None)
    if indices is not None and not features:
        raise ConfigError("out_indices needs features_only=True")
    if kind == "name":
        plan = _registered(reference, pretrained, keywords)
    elif kind == "file":
        raise ConfigError(
            f"{reference!r} is an exported file: predict and verify take it, create_model needs a "
            "model name or a directory with config.json and model.safetensors"
        )
    else:
        find: Callable[[str], Place] = Repository.find if kind == "hf-hub" else Directory
        plan = stored(find(reference), pretrained, keywords)
    if not features:
        return plan
    return replace(plan, finish=functools.partial(_features, out_indices=indices))


def _name_the_tag(reference: str, pretrained: object) -> str:
    """What to do for somebody who gives a tag as `pretrained`."""
    if not isinstance(pretrained, str) or kind_of(reference) != "name":
        return ""
    arch = split_reference(reference)[0]
    return f"; a tag belongs to the name, ARCH.TAG: {arch}.{pretrained}, with pretrained=True"


# kind of reference -> somebody else's models: (reference, pretrained, keywords) -> blueprint
_OTHERS: dict[str, Callable[[str, bool, Overrides], Blueprint]] = {
    "timm": of_timm,
    "torchvision": of_torchvision,
    "hf": of_transformers,
    "py": of_own_code,
}
# architecture in a config.json -> the same; code of one's own is run only where it is named
_STORED = {"timm": of_timm, "torchvision": of_torchvision, "hf": of_stored_transformers}


def _registered(name: str, pretrained: bool, overrides: Overrides) -> Blueprint:
    record = get_record(name)
    overrides = record.own_keywords(overrides)
    if not pretrained:
        return of_named(name, record, overrides)
    if record.selected is None and record.checkpoint is not None:
        raise NoWeightsError(record.checkpoint.how_to_import, code="import_first")
    if record.selected is None:
        tags = ", ".join(record.tags) or "none"
        raise NoWeightsError(
            f"{record.name} has no weights to load (tags: {tags}); train some with `convattn train "
            f"{record.name} --data digits --out run/`, or pass pretrained=False"
        )
    return _published(record, record.selected, overrides)


def of_named(name: str, record: ModelRecord, overrides: Overrides) -> Blueprint:
    """A registered architecture with random weights: with the shape, the input and the labels of
    those that `name` names by their tag, as in timm.
    """
    if record.selected is None or split_reference(name)[1] is None:
        return of_record(record, overrides)
    return _shaped(record, record.selected, overrides)


def of_record(record: ModelRecord, overrides: Overrides) -> Blueprint:
    """A registered architecture with random weights."""
    config = {**record.config, **overrides}
    described = PretrainedCfg(
        architecture=record.name,
        architecture_version=record.family.version,
        num_classes=config.get("num_classes", 1000),
        input=input_of(record.input, config),
        labels=() if "num_classes" in overrides else read_labels(record.labels),
        licence=record.family.licence.weights,
        model_args={**record.alias_config, **overrides},
    )
    make = functools.partial(construct, record.family.builder, config)
    return Blueprint(described=described, construct=make, record=record)


def _published(record: ModelRecord, weights: WeightsRecord, overrides: Overrides) -> Blueprint:
    """A registered architecture with the weights of a record."""
    check_architecture(weights, record)
    plan = _shaped(record, weights, at_training_size(record, weights.overrides, overrides))
    described = replace(
        plan.described,
        tag=weights.tag,
        version=weights.version,
        sha256=weights.sha256,
        licence=weights.licence or record.family.licence.weights,
    )
    return replace(
        plan,
        described=described,
        read=functools.partial(fetch, weights),
        what=weights.name,
        adapt=bool(overrides),
    )


def _shaped(record: ModelRecord, weights: WeightsRecord, overrides: Overrides) -> Blueprint:
    """A registered architecture as weights of it want it, with random ones."""
    config = {**weights.overrides, **overrides}
    plan = of_record(record, config)
    usual = {**record.config, **weights.overrides}.get("num_classes", 1000)
    described = replace(
        plan.described,
        input=input_of(weights.input or record.input, {**record.config, **config}),
        labels=read_labels(weights.labels) if plan.described.num_classes == usual else (),
    )
    return replace(plan, described=described)


def check_architecture(weights: WeightsRecord, record: ModelRecord) -> None:
    """Raises: IncompatibleWeightsError if the weights were made for other forward numerics."""
    if record.family.version not in weights.architecture_versions:
        fits = ", ".join(str(v) for v in weights.architecture_versions)
        raise IncompatibleWeightsError(
            f"{weights.name} fits version {fits} of the {record.family.name} architecture; this is "
            f"version {record.family.version}. Use weights made for it, or an older convattn-zoo"
        )


def stored(place: Place, pretrained: bool, overrides: Overrides) -> Blueprint:
    """The model of a directory or a repository, by its config.json."""
    what = place.name_of(WEIGHTS)
    config = read_config(place)
    architecture = architecture_of(config)
    kind = architecture.partition(":")[0]
    if kind == "py":
        raise ConfigError(
            f"{what} belongs to code of one's own ({architecture}), which is never run because a "
            f"directory names it; use its .onnx file, or {architecture} with --weights {what}",
            code="own_code",
        )
    of_others = _STORED.get(kind)
    if of_others is not None:
        plan = of_others(architecture, False, {**trained_arguments(config, None), **overrides})
    else:
        record = get_record(architecture)
        check_version(record, config, what)
        trained = trained_arguments(config, record)
        if pretrained:
            overrides = at_training_size(record, trained, overrides)
        plan = of_record(record, {**trained, **overrides})
    described = restored_cfg(plan.described, config, overrides)
    plan = replace(plan, described=described, stated=True)
    if not pretrained:
        return plan
    own = config.get("convattn", {})
    stated = own.get("weights_sha256") or ""
    described = replace(
        described, tag=own.get("tag", ""), version=own.get("version", ""), sha256=stated
    )
    return replace(
        plan,
        described=described,
        read=functools.partial(_read_weights, place, stated),
        what=what,
        adapt=bool(overrides),
    )


def _read_weights(place: Place, stated: str) -> bytes:
    """model.safetensors, with the digest that config.json states. Raises: IntegrityError..."""
    data, what = place.read(WEIGHTS), place.name_of(WEIGHTS)
    if stated and sha256_bytes(data) != stated:
        from ..weights.safetensors_file import read_header

        read_header(data, what)  # says if the file is cut short or of another kind
        raise IntegrityError(
            f"{what} has SHA-256 {sha256_bytes(data)}, its config.json says {stated}; "
            "restore the directory or write it again",
            code="hash",
        )
    return data


def _features(model: Any, out_indices: Any) -> Any:
    from ..models._views import features_of

    return features_of(model, out_indices)
