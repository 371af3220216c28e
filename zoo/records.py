"""What the zoo knows about its models: frozen records that validate themselves. No torch here.

A fact stands in exactly one record. `Family` describes an architecture and its sizes,
`WeightsRecord` one published set of weights, `ModelRecord` is the view of one size that the
registry hands out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import ConfigError

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message, code="record")


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """How an image becomes a model's input.

    Args:
        size: (height, width) of the input in pixels.
        in_chans: 3 (RGB) or 1 (grey).
        mean, std: per channel, for values in [0, 1].
        interpolation: "bicubic", "bilinear" or "nearest".
        crop_pct: the shorter side is resized to ``size / crop_pct`` and the centre is cropped.
    """

    size: tuple[int, int] = (224, 224)
    in_chans: int = 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bicubic"
    crop_pct: float = 0.875

    def __post_init__(self) -> None:
        _require(
            len(self.size) == 2 and min(self.size) > 0,
            f"size must be (height, width); got {self.size}",
        )
        _require(self.in_chans > 0, f"in_chans must be positive; got {self.in_chans}")
        _require(
            len(self.mean) == len(self.std) and min(self.std) > 0,
            f"mean and std must have one positive-deviation entry per channel; got {self.mean}, "
            f"{self.std}",
        )
        _require(
            self.interpolation in ("bicubic", "bilinear", "nearest"),
            f"interpolation must be bicubic, bilinear or nearest; got {self.interpolation!r}",
        )
        _require(0 < self.crop_pct <= 1, f"crop_pct must be in (0, 1]; got {self.crop_pct}")

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON values, under timm's names (`input_size` is (C, H, W))."""
        return {
            "input_size": [self.in_chans, *self.size],
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "crop_pct": self.crop_pct,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InputSpec:
        """The inverse of `to_dict`; missing entries take the defaults."""
        chans, *size = values.get("input_size", (3, 224, 224))
        return cls(
            size=(int(size[0]), int(size[1])),
            in_chans=int(chans),
            mean=tuple(values.get("mean", IMAGENET_MEAN)),
            std=tuple(values.get("std", IMAGENET_STD)),
            interpolation=values.get("interpolation", "bicubic"),
            crop_pct=float(values.get("crop_pct", 0.875)),
        )


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One published number. Numbers that we measure live in model_cards/measured, not here.

    Args:
        name: e.g. "acc1_percent".
        value: the number, in the unit that the name states.
        dataset: what it was measured on.
        source: paper, table or file that states it.
    """

    name: str
    value: float
    dataset: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Licences of code and of weights, separately, as upstream states them (SPDX where one
    exists).
    """

    code: str
    weights: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class WeightsRecord:
    """One immutable set of weights, keyed by (model, tag, version).

    Exactly one location: `bundled` (a file name inside the package), or `repo` + `revision` +
    `file` (a Hub repository at a full commit hash). Both carry `sha256` and `size_bytes`. A file of
    someone else's repository whose digest was never seen has `pinned_on_first_use` instead of
    these two and of `revision`: `zoo.pins.pin_on_first_use` notes them when it is first loaded.

    Args:
        model, tag, version: ``model.tag@version``; the version is ``X.Y.Z``.
        architecture_versions: versions of the architecture that the weights fit.
        manifest_sha256: of the manifest.json beside it, which pins all other files of a bundle.
        overrides: constructor arguments that differ from the model's, e.g. ``num_classes``.
        input: how these weights want their images; None means the family's default.
        labels: name of a label list (`zoo.labels.read_labels`).
        dataset: what they were trained on.
        licence: of the weights; empty means the family's `licence.weights`.
        metrics: published numbers with their sources.
        url: where the original file lives, for the reader.
        recipe, seed: of weights that we trained: a name of `zoo.training.recipes`, on the data that
            the tag names.
    """

    model: str
    tag: str
    version: str
    architecture_versions: tuple[int, ...]
    sha256: str = ""
    size_bytes: int = 0
    pinned_on_first_use: bool = False
    bundled: str = ""
    repo: str = ""
    revision: str = ""
    file: str = "model.safetensors"
    manifest_sha256: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    input: InputSpec | None = None
    labels: str = ""
    dataset: str = ""
    licence: str = ""
    metrics: tuple[Metric, ...] = ()
    url: str = ""
    recipe: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        who = f"weights {self.model}.{self.tag}@{self.version}"
        _require(bool(NAME.fullmatch(self.model)), f"{who}: model must match {NAME.pattern}")
        _require(bool(NAME.fullmatch(self.tag)), f"{who}: tag must match {NAME.pattern}")
        _require(bool(VERSION.fullmatch(self.version)), f"{who}: version must be X.Y.Z")
        _require(
            bool(self.bundled) != bool(self.repo), f"{who}: give either bundled or repo, not both"
        )
        _require(bool(self.architecture_versions), f"{who}: architecture_versions is empty")
        if self.pinned_on_first_use:
            _require(
                bool(self.repo) and not (self.sha256 or self.size_bytes or self.revision),
                f"{who}: pinned_on_first_use goes with repo, without sha256, size_bytes, revision",
            )
        else:
            self._check_pin(who)

    def _check_pin(self, who: str) -> None:
        _require(
            bool(SHA256.fullmatch(self.sha256)), f"{who}: sha256 must be 64 hexadecimal digits"
        )
        _require(self.size_bytes > 0, f"{who}: size_bytes must be positive; got {self.size_bytes}")
        _require(
            not self.repo or bool(COMMIT.fullmatch(self.revision)),
            f"{who}: a hub record needs revision, a full commit hash of 40 hexadecimal digits; "
            f"got {self.revision!r}",
        )

    @property
    def name(self) -> str:
        """``model.tag@version``."""
        return f"{self.model}.{self.tag}@{self.version}"

    @property
    def version_key(self) -> tuple[int, ...]:
        """The version as integers, for ordering."""
        return tuple(int(part) for part in self.version.split("."))


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """Published weights in a file that only `convattn import` reads. Its digest was never seen.

    Args:
        model, tag: ``model.tag``; a model of timm is called ``timm:NAME``.
        address: where upstream keeps the file, or the page that links to it.
        about_address: what the reader finds there, if it is not the file itself.
        upstream: repository that the weights belong to; empty means the family's.
        layout: name of a renaming in `zoo.layouts`; empty: the keys are ours.
        allowed_globals: names in the file's pickle that stand for harmless metadata. They are read
            as empty objects and dropped; any other name is refused.
        overrides: constructor arguments that differ from the model's, e.g. ``num_classes``.
        input: how these weights want their images; None means the model's default.
        dataset: what they were trained on.
        licence: of the weights; empty means the family's `licence.weights`.
        metrics: published numbers with their sources.
    """

    model: str
    tag: str
    address: str
    about_address: str = ""
    upstream: str = ""
    layout: str = ""
    allowed_globals: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    input: InputSpec | None = None
    dataset: str = ""
    licence: str = ""
    metrics: tuple[Metric, ...] = ()

    def __post_init__(self) -> None:
        who = f"checkpoint {self.name}"
        _require(bool(NAME.fullmatch(self.tag)), f"{who}: tag must match {NAME.pattern}")
        _require(self.address.startswith("https://"), f"{who}: address must start with https://")

    @property
    def name(self) -> str:
        """``model.tag``."""
        return f"{self.model}.{self.tag}"

    @property
    def where(self) -> str:
        """The address, with what is found there."""
        return f"{self.address} ({self.about_address})" if self.about_address else self.address

    @property
    def how_to_import(self) -> str:
        """What to tell someone who wants to load these weights directly."""
        return (
            f"the weights {self.name} must be imported first: download them from {self.where}, run "
            f"`convattn import FILE --model {self.name} --out DIR`, and use DIR as the model"
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
        labels: label list (`zoo.labels.read_labels`) of sizes with the default 1,000 classes.
        not_exportable: an export that cannot be ("dynamic-size", "torchscript", ...) -> why.
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
    input: InputSpec = InputSpec()
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

    def __post_init__(self) -> None:
        who = f"family {self.name}"
        _require(bool(self.variants), f"{who}: no variants")
        _require(bool(self.tiny), f"{who}: no tiny configuration")
        for name in self.variants:
            _require(bool(NAME.fullmatch(name)), f"{who}: {name!r} must match {NAME.pattern}")
        known = {w.model for w in self.weights} | {c.model for c in self.checkpoints}
        unknown = known - set(self.variants)
        _require(not unknown, f"{who}: weights for unknown models {sorted(unknown)}")
        for alias, (model, _) in self.aliases.items():
            _require(
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
