"""What the zoo knows about its models: frozen records that validate themselves. No torch here.

A fact stands in exactly one record. `Family` describes an architecture and its sizes,
`WeightsRecord` one published set of weights, `ModelRecord` is the view of one size that the
registry hands out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .frozen import settle
from .weights_records import (
    COMMIT,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NAME,
    SHA256,
    VERSION,
    CheckpointRecord,
    InputSpec,
    Metric,
    WeightsRecord,
    require,
)

__all__ = [
    "COMMIT",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "NAME",
    "SHA256",
    "VERSION",
    "CheckpointRecord",
    "DataRecord",
    "Family",
    "InputSpec",
    "Licence",
    "Metric",
    "ModelRecord",
    "WeightsRecord",
]


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Licences of code and of weights, separately, as upstream states them (SPDX where one
    exists).
    """

    code: str
    weights: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """One data set that the zoo knows: its classes, its terms, its parts, what a card says of it.

    Args:
        name: what `--data` takes, and the tag of weights that are trained on it.
        title: as in a sentence.
        labels: class names by number; empty for those of the label list `name`.
        licence, citation: of the images: SPDX or the licence's own name; identifier of the paper.
        hub_id: its repository on the Hub.
        task: identifier of the task there.
        results: beginnings of the names under which results on it are kept.
        split: whose division into parts the results refer to.
        parts: part -> images; empty where that depends on what the user has.
        recipe: of `zoo.training.recipes`, when none is named.
        opens_by_name: whether `--data NAME` needs no directory.
        digests: SHA-256 of the content, by what it is of.
        about: what the images are, and whose.
        use: what a model trained on them is for.
        limits: where it fails or says nothing.
    """

    name: str
    title: str
    labels: tuple[str, ...] = ()
    licence: str = ""
    citation: str = ""
    hub_id: str = ""
    task: str = "image-classification"
    results: tuple[str, ...] = ()
    split: str = ""
    parts: Mapping[str, int] = field(default_factory=dict)
    recipe: str = ""
    opens_by_name: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)
    about: str = ""
    use: str = ""
    limits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        who = f"data set {self.name}"
        settle(self, who)
        require(bool(NAME.fullmatch(self.name)), f"{who}: the name must match {NAME.pattern}")
        require(
            len(set(self.labels)) == len(self.labels) != 1,
            f"{who}: labels must be different names of at least two classes; got {self.labels}",
        )
        for what, digest in self.digests.items():
            require(
                bool(SHA256.fullmatch(digest)),
                f"{who}: the digest of {what} must be 64 hexadecimal digits; got {digest!r}",
            )
        require(
            not self.opens_by_name or bool(self.parts and self.recipe and self.labels),
            f"{who}: opens_by_name goes with labels, parts and recipe",
        )


@dataclass(frozen=True, kw_only=True)
class Family:
    """An architecture with its sizes: one object per file in `zoo/catalog`.

    Args:
        name: name of the family, e.g. "convit".
        builder: "module:Class" inside `zoo.models`.
        summary: one line for listings.
        paper, bibtex: identifier and citation.
        upstream: repository whose state dicts and numbers we reproduce.
        licence: of code and weights, separately.
        input: default preprocessing.
        variants: model name -> constructor keywords (JSON values).
        descriptions: model name -> one line; optional.
        inputs: model name -> InputSpec, where it differs from `input`.
        tiny: constructor keywords of a seconds-not-minutes configuration for tests.
        version: the architecture's own version; bumped when the forward numerics change.
        weights: weights that load by name, all versions.
        checkpoints: weights that must be imported, or can be, from their original files.
        checkpoint_variants: constructor keywords under which checkpoints of this family exist too,
            e.g. as backbones without a classifier.
        aliases: an original's name with its prefix, e.g. "hdvw:vit_ti" -> (model, its keywords).
        alias_keywords: the original's keyword -> ours, under an alias; "" if it does nothing there.
        cite_note: whom to cite, where that is easily confused.
        labels: label list (`zoo.catalog.tables.read_labels`) of sizes with the default 1,000
            classes.
        not_exportable: an export that cannot be ("dynamic-size", "torchscript", ...) -> why.
        convolutional: it has convolutions alone: nothing that mixes distant places by content.
        goldens: groups of cases in tests/goldens that record what the original computes.
    """

    name: str
    builder: str
    summary: str
    paper: str
    bibtex: str
    upstream: str
    licence: Licence
    variants: Mapping[str, Mapping[str, Any]]
    tiny: Mapping[str, Any]
    version: int = 1
    input: InputSpec = field(default_factory=InputSpec)
    inputs: Mapping[str, InputSpec] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[WeightsRecord, ...] = ()
    checkpoints: tuple[CheckpointRecord, ...] = ()
    checkpoint_variants: tuple[Mapping[str, Any], ...] = ()
    aliases: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    alias_keywords: Mapping[str, str] = field(default_factory=dict)
    cite_note: str = ""
    labels: str = "imagenet1k"
    not_exportable: Mapping[str, str] = field(default_factory=dict)
    convolutional: bool = False
    goldens: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        who = f"family {self.name}"
        settle(self, who)
        require(bool(self.variants), f"{who}: no variants")
        require(bool(self.tiny), f"{who}: no tiny configuration")
        for name in self.variants:
            require(bool(NAME.fullmatch(name)), f"{who}: {name!r} must match {NAME.pattern}")
        known = {w.model for w in self.weights} | {c.model for c in self.checkpoints}
        unknown = known - set(self.variants)
        require(not unknown, f"{who}: weights for unknown models {sorted(unknown)}")
        for alias, (model, _) in self.aliases.items():
            require(
                ":" in alias and model in self.variants,
                f"{who}: the alias {alias!r} must be PREFIX:NAME of a model here; got {model!r}",
            )


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """One model of the zoo, as `zoo.get_record` returns it.

    `weights` holds all versions of all tags, newest first within a tag; `selected` is the one that
    the reference (``arch[.tag][@version]``) picks, or None if the model has none. `checkpoints` are
    the files that can be imported; `checkpoint` is the one of that tag. For an `alias`, `config`
    includes the alias's own keywords, `alias_config`.
    """

    name: str
    family: Family
    config: Mapping[str, Any]
    input: InputSpec
    weights: tuple[WeightsRecord, ...]
    selected: WeightsRecord | None
    checkpoints: tuple[CheckpointRecord, ...] = ()
    checkpoint: CheckpointRecord | None = None
    alias: str = ""
    alias_config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settle(self, f"model {self.name}")

    def own_keywords(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Constructor keywords under our names: an alias allows the original's names as well."""
        names = self.family.alias_keywords if self.alias else {}
        renamed = {names.get(key, key): value for key, value in overrides.items()}
        return {key: value for key, value in renamed.items() if key}

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags that exist, each once: those that load by name, then those to be imported."""
        tags = [w.tag for w in self.weights] + [c.tag for c in self.checkpoints]
        return tuple(dict.fromkeys(tags))

    @property
    def labels(self) -> str:
        """Name of the label list of this size's own classes, or ""."""
        return self.family.labels if self.config.get("num_classes", 1000) == 1000 else ""

    @property
    def description(self) -> str:
        """One line about this size."""
        return self.family.descriptions.get(self.name, self.family.summary)
