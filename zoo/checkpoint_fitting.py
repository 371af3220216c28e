"""Which model do these tensors fit? Shapes are compared on the meta device, without memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from . import factory, references
from .costs import read_costs
from .errors import ConfigError, WeightsMismatchError
from .layouts import LAYOUTS
from .records import CheckpointRecord, Licence
from .registry import get_record, list_models, split_reference, timm_checkpoints

Shapes = Mapping[str, torch.Size]
Differences = tuple[list[str], list[str], list[str]]  # missing, unexpected, of another shape
_TRAINING_SCRIPTS = ("argparse.Namespace",)  # what timm's, DeiT's and their kin put beside weights
_EVERYWHERE = ("module.", "_orig_mod.")  # DataParallel, torch.compile
_BACKBONE = "backbone."


@dataclass(frozen=True)
class Guess:
    """One way in which a file may hold a model.

    Args:
        overrides: constructor keywords.
        layout: name of a renaming in `zoo.layouts`.
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
        build: overrides -> model.
        licence: of code and weights, as upstream states them.
        upstream: whose weights they usually are.
    """

    name: str
    tag: str
    family: str
    fixed: frozenset[str]
    guesses: tuple[Guess, ...]
    build: Callable[[Mapping[str, Any]], nn.Module]
    licence: Licence
    upstream: str

    @property
    def allowed_globals(self) -> tuple[str, ...]:
        """Names of harmless metadata in such files."""
        known = [g.checkpoint.allowed_globals for g in self.guesses if g.checkpoint is not None]
        return tuple(sorted({name for names in known or [_TRAINING_SCRIPTS] for name in names}))


def find_target(reference: str, overrides: Mapping[str, Any]) -> Target:
    """The model named by ``ARCH[.TAG]`` or ``timm:ARCH[.TAG]``.

    Raises: UnknownModelError, ConfigError.
    """
    if reference.startswith("timm:"):
        return _timm_target(reference, overrides)
    if not references.is_registry_name(reference):
        raise ConfigError(
            f"--model {reference!r} must be a model's name (see `convattn list`) or timm:NAME"
        )
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
        build=lambda keywords: factory.build(record, keywords),
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
        build=lambda keywords: references.create_from_reference(name, False, keywords),
        licence=Licence(code="Apache-2.0", weights="", note="timm's code; see the weights' source"),
        upstream="github.com/huggingface/pytorch-image-models",
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


def strip_prefix(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str, list[str]]:
    """Names without what wrappers put before them; the prefix; names outside a backbone."""
    found, prefix = dict(tensors), ""
    while part := next((p for p in _EVERYWHERE if all(k.startswith(p) for k in found)), ""):
        found = {key.removeprefix(part): value for key, value in found.items()}
        prefix += part
    if not any(key.startswith(_BACKBONE) for key in found):
        return found, prefix, []
    outside = [prefix + key for key in found if not key.startswith(_BACKBONE)]
    inside = {k.removeprefix(_BACKBONE): v for k, v in found.items() if k.startswith(_BACKBONE)}
    return inside, prefix + _BACKBONE, outside


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
    error = WeightsMismatchError.between(what, *closest[1])
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
    with torch.device("meta"):
        model = target.build(overrides)
    differences = _differences(model, renamed)
    if any(differences) and not target.tag:
        inferred = _inferred(model, renamed, differences)
        inferred = {key: value for key, value in inferred.items() if key not in target.fixed}
        if inferred:
            overrides |= inferred
            with torch.device("meta"):
                differences = _differences(target.build(overrides), renamed)
            guess = replace(guess, checkpoint=None)
    return (None if any(differences) else Fit(guess, overrides, names)), differences


def _differences(model: nn.Module, shapes: Shapes) -> Differences:
    expected = factory.state_shapes(model)
    wrong = [
        f"{key} {tuple(shapes[key])} instead of {tuple(expected[key])}"
        for key in expected.keys() & shapes.keys()
        if shapes[key] != expected[key]
    ]
    missing, unexpected = expected.keys() - shapes.keys(), shapes.keys() - expected.keys()
    return sorted(missing), sorted(unexpected), sorted(wrong)


def _inferred(model: nn.Module, shapes: Shapes, differences: Differences) -> dict[str, int]:
    """Keywords that explain all differences: another classifier, another image size."""
    names = {id(module): name for name, module in model.named_modules()}
    classifier = model.get_classifier() if hasattr(model, "get_classifier") else None
    head = names.get(id(classifier), "")
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
