"""Which model do these tensors fit? Shapes are compared on the meta device, without memory."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...catalog.records import Licence
from ...catalog.references import kind_of
from ...catalog.registry import (
    get_record,
    list_models,
    split_reference,
    timm_checkpoints,
)
from ...catalog.tables import read_costs
from ...catalog.weights_records import CheckpointRecord
from ...errors import WeightsMismatchError
from ...weights.classifier import classifier_name
from ..building import Blueprint, build, state_shapes
from ..resolve import of_named, resolve
from .prefixes import Differences, few_differences, full_prefixes, some

Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True)
class Guess:
    """One way in which a file may hold a model.

    Args:
        overrides: constructor keywords.
        layout: name of a renaming in `zoo.factory.importing.fitting.LAYOUTS`.
        checkpoint: the record that says so.
    """

    overrides: Mapping[str, Any]
    layout: str = ""
    checkpoint: CheckpointRecord | None = None


@dataclass(frozen=True)
class Target:
    """The model that a checkpoint is said to be of.

    Args:
        name: ``ARCH`` or ``timm:ARCH``.
        tag: the one that was named, or empty.
        family: of the zoo; empty for timm's models.
        fixed: keywords that the caller chose.
        guesses: the first one that fits is taken.
        plan: overrides -> blueprint.
        licence: of code and weights, as upstream states them.
        upstream: whose weights they usually are.
        device: where it is outlined; code of one's own may need values.
    """

    name: str
    tag: str
    family: str
    fixed: frozenset[str]
    guesses: tuple[Guess, ...]
    plan: Callable[[Mapping[str, Any]], Blueprint]
    licence: Licence
    upstream: str
    device: str = "meta"

    @property
    def names(self) -> frozenset[str]:
        """Names of the model's tensors. Raises: ConfigError for impossible keywords."""
        return frozenset(self.outline(self.guesses[0].overrides).state_dict())

    def outline(self, overrides: Mapping[str, Any]) -> nn.Module:
        """The model without values, on the meta device. Raises: as `names`."""
        with torch.device(self.device):
            return build(replace(self.plan(overrides), finish=lambda model: model))


def find_target(reference: str, overrides: Mapping[str, Any]) -> Target:
    """The model of a reference; ``ARCH.TAG`` or ``timm:ARCH.TAG`` names published weights of it.

    Raises: UnknownModelError, ConfigError.
    """
    kind = kind_of(reference)
    if kind != "name":
        return (_timm_target if kind == "timm" else _other_target)(reference, overrides)
    record = get_record(reference)
    overrides = record.own_keywords(overrides)
    named = record.checkpoint if split_reference(reference)[1] else None
    if named is not None:
        guesses = _of_records([named], overrides)
    else:
        plain = [Guess({**v, **overrides}) for v in ({}, *record.family.checkpoint_variants)]
        guesses = (*_of_records(record.checkpoints, overrides), *plain)
    return Target(
        name=record.alias or record.name,
        tag=named.tag if named else "",
        family=record.family.name,
        fixed=frozenset(overrides),
        guesses=guesses,
        plan=lambda keywords: of_named(reference, record, keywords),
        licence=record.family.licence,
        upstream=record.family.upstream,
    )


def _of_records(
    records: Iterable[CheckpointRecord], overrides: Mapping[str, Any]
) -> tuple[Guess, ...]:
    return tuple(Guess({**c.overrides, **overrides}, c.layout, c) for c in records)


def _timm_target(reference: str, overrides: Mapping[str, Any]) -> Target:
    known = [c for c in timm_checkpoints() if reference in (c.name, c.model)]
    named = next((c for c in known if c.name == reference), None)
    name = named.model if named else reference
    others = () if named else tuple(Guess(dict(overrides), layout) for layout in LAYOUTS)
    return Target(
        name=name,
        tag=named.tag if named else "",
        family="",
        fixed=frozenset(overrides),
        guesses=(*_of_records(known, overrides), *others),
        plan=lambda keywords: resolve(name, False, keywords),
        licence=Licence(code="Apache-2.0", weights="", note="timm's code; see the weights' source"),
        upstream="github.com/huggingface/pytorch-image-models",
    )


def _other_target(reference: str, overrides: Mapping[str, Any]) -> Target:
    return Target(
        name=reference,
        tag="",
        family="",
        fixed=frozenset(overrides),
        guesses=(Guess(dict(overrides)),),
        plan=lambda keywords: resolve(reference, False, keywords),
        licence=Licence(code="", weights="", note="see the source of the model"),
        upstream="",
        device="cpu" if kind_of(reference) == "py" else "meta",
    )


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file become a model's.

    Args:
        guess: the one that fits.
        overrides: its keywords, and the number of classes if the file has another one.
        names: name in the file -> name in the model, or "" if the model computes it itself.
    """

    guess: Guess
    overrides: Mapping[str, Any]
    names: Mapping[str, str]


def fit(target: Target, tensors: Mapping[str, Tensor], what: str) -> Fit:
    """The first guess that the tensors fit exactly, by names and shapes.

    Raises: WeightsMismatchError with the differences from the closest guess, and with the names of
        other models that fit; ConfigError for impossible keywords.
    """
    shapes = {key: value.shape for key, value in tensors.items()}
    closest: tuple[int, Differences] | None = None
    for guess in target.guesses:
        found, differences = _try(target, guess, shapes)
        if found is not None:
            return found
        count = sum(map(len, differences))
        if closest is None or count < closest[0]:
            closest = count, differences
    assert closest is not None
    prefixes = full_prefixes(tensors, target.names)
    if len(prefixes) > 1:
        raise WeightsMismatchError(
            f"{what} holds {target.name} {len(prefixes)} times, under {some(prefixes)}; save one "
            "of them without its prefix, and import that"
        )
    error = WeightsMismatchError.between(what, *few_differences(*closest[1]))
    others = _other_fits(target, shapes)
    if others:
        names = " or ".join(f"--model {name}" for name in others[:3])
        raise WeightsMismatchError(f"{what} does not fit {target.name}, its tensors fit {names}")
    raise WeightsMismatchError(
        f"{error}. Expected {target.name}; import it under another --model, or with --set "
        "KEY=VALUE for the settings that it was made with"
    )


def _try(target: Target, guess: Guess, shapes: Shapes) -> tuple[Fit | None, Differences]:
    """Whether a guess fits; without a tag, with the classes and the image size of the file."""
    names = {key: LAYOUTS[guess.layout](key) for key in shapes}
    renamed = {new: shapes[old] for old, new in names.items() if new}
    overrides = dict(guess.overrides)
    model = target.outline(overrides)
    differences = _differences(model, renamed)
    if any(differences) and not target.tag:
        inferred = _inferred(model, renamed, differences)
        inferred = {key: value for key, value in inferred.items() if key not in target.fixed}
        if inferred:
            overrides |= inferred
            differences = _differences(target.outline(overrides), renamed)
            guess = replace(guess, checkpoint=None)
    return (None if any(differences) else Fit(guess, overrides, names)), differences


def _differences(model: nn.Module, shapes: Shapes) -> Differences:
    expected = state_shapes(model)
    wrong = [
        f"{key} {tuple(shapes[key])} instead of {tuple(expected[key])}"
        for key in expected.keys() & shapes.keys()
        if shapes[key] != expected[key]
    ]
    missing, unexpected = expected.keys() - shapes.keys(), shapes.keys() - expected.keys()
    return sorted(missing), sorted(unexpected), sorted(wrong)


def _inferred(model: nn.Module, shapes: Shapes, differences: Differences) -> dict[str, int]:
    """Keywords that explain all differences: another classifier, another image size."""
    head = classifier_name(model)
    keys = {text.partition(" ")[0] for part in differences for text in part}
    in_head = {key for key in keys if head and key.startswith(f"{head}.")}
    positions = {key for key in keys if key.rpartition(".")[2] in ("pos_embed", "pos_embedding")}
    if keys - in_head - positions:
        return {}
    found = {}
    if in_head:
        found["num_classes"] = shapes.get(f"{head}.weight", (0,))[0]
    for key in positions & shapes.keys():
        size = model.pretrained_cfg.input.size[0]
        found["img_size"] = _image_size(model.state_dict()[key].shape, shapes[key], size)
    return {key: value for key, value in found.items() if value is not None}


def _image_size(expected: torch.Size, found: torch.Size, size: int) -> int | None:
    """The side of the images of other position embeddings (1, N, C), with or without class token;
    `size` is the side that goes with the `expected` ones.
    """
    if len(expected) != 3 or len(found) != 3:
        return None
    for extra in (0, 1):
        old, new = math.isqrt(expected[1] - extra), math.isqrt(max(found[1] - extra, 0))
        if (old**2, new**2) == (expected[1] - extra, found[1] - extra) and old * new > 0:
            return size * new // old
    return None


def _other_fits(target: Target, shapes: Shapes) -> list[str]:
    """Names of other models that the tensors fit: of the same family, else of any, else timm's.

    Only models of about the same size are built.
    """
    size = max(sum(math.prod(shape) for shape in shapes.values()), 1)
    costs = read_costs()
    similar = [
        n for n in list_models() if 0.5 <= size / costs.get(n, {"params": size})["params"] <= 2
    ]
    relatives = [name for name in similar if name in list_models(family=target.family or None)]
    published = [checkpoint.model for checkpoint in timm_checkpoints()]
    for names in (relatives, [n for n in similar if n not in relatives], published):
        others = [find_target(name, {}) for name in names if name != target.name]
        found = [o.name for o in others if any(_try(o, g, shapes)[0] for g in o.guesses)]
        if found:
            return found
    return []


_COMPUTED = re.compile(r"layers\.\d+\.blocks\.\d+\.(attn_mask|attn\.relative_position_index)")


def _next_stage(stages: str, part: str, name: str) -> str:
    pattern = rf"({stages}\.)(\d+)(\.{part}\..*)"
    return re.sub(pattern, lambda m: f"{m[1]}{int(m[2]) + 1}{m[3]}", name)


def _pit(name: str) -> str:
    return _next_stage("transformers", "pool", name)


def _swin(name: str) -> str:
    if _COMPUTED.fullmatch(name):
        return ""
    return re.sub(r"^head\.(?=weight|bias)", "head.fc.", _next_stage("layers", "downsample", name))


# Each returns the new name, or "" for a tensor that the model computes itself.
LAYOUTS: dict[str, Callable[[str], str]] = {
    "": lambda name: name,
    "timm-0.5-pit": _pit,
    "timm-0.5-swin": _swin,
}
