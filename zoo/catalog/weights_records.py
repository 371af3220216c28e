"""Published weights as records: what images they want, where their bytes lie, which numbers they
reach. No torch here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, TypedDict

from ..errors import ConfigError
from .checked_json import Document
from .frozen import freeze, settle
from .names import check_names, is_portable

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def require(condition: bool, message: str) -> None:
    """Raises: ConfigError (code "record") unless `condition` holds."""
    if not condition:
        raise ConfigError(message, code="record")


def _all(kind: type, values: Any, count: int) -> bool:
    """Whether values are so many numbers of a kind."""
    return (
        isinstance(values, tuple)
        and len(values) == count
        and all(_is(kind, value) for value in values)
    )


def _is(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


class InputFields(TypedDict, total=False):
    """An `InputSpec` as JSON, under timm's names."""

    input_size: tuple[int, int, int]
    mean: list[float]
    std: list[float]
    interpolation: str
    crop_pct: float


INPUT = Document(InputFields, "input specification", "record")
_MAX_PIXELS = 4096 * 4096  # of an input


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """How an image becomes a model's input. Lists and numpy numbers are plain ones then.

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
        for name, value in vars(self).items():
            object.__setattr__(self, name, freeze(value))
        require(
            _all(Integral, self.size, 2)
            and min(self.size) > 0
            and math.prod(self.size) <= _MAX_PIXELS,
            f"size must be (height, width) of at most {_MAX_PIXELS} pixels; got {self.size!r:.80}",
        )
        require(
            _is(Integral, self.in_chans) and 0 < self.in_chans <= 1024,
            f"in_chans must be in 1 to 1024; got {self.in_chans!r:.80}",
        )
        require(
            _all(Real, self.mean, self.in_chans)
            and _all(Real, self.std, self.in_chans)
            and all(map(math.isfinite, (*self.mean, *self.std)))
            and min(self.std) > 0,
            f"mean and std must have one entry for each of {self.in_chans} channels, std positive; "
            f"got {self.mean!r:.80}, {self.std!r:.80}",
        )
        require(
            self.interpolation in ("bicubic", "bilinear", "nearest"),
            f"interpolation must be bicubic, bilinear or nearest; got {self.interpolation!r}",
        )
        require(
            _is(Real, self.crop_pct) and 0.01 <= self.crop_pct <= 1,
            f"crop_pct must be in 0.01 to 1; got {self.crop_pct!r:.80}",
        )

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
        """The inverse of `to_dict`; missing entries take the defaults. Raises: ConfigError."""
        found = INPUT.check(values, "this")
        chans, *size = found.get("input_size", (3, 224, 224))
        return cls(
            size=(size[0], size[1]),
            in_chans=chans,
            mean=tuple(found.get("mean", IMAGENET_MEAN)),
            std=tuple(found.get("std", IMAGENET_STD)),
            interpolation=found.get("interpolation", "bicubic"),
            crop_pct=found.get("crop_pct", 0.875),
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
class WeightsRecord:
    """One immutable set of weights, keyed by (model, tag, version).

    Exactly one location: `bundled` (a file name inside the package), or `repo` + `revision` +
    `file` (a Hub repository at a full commit hash). Both carry `sha256` and `size_bytes`. A file of
    someone else's repository whose digest was never seen has `pinned_on_first_use` instead of
    these two and of `revision`: `zoo.files.fetch.pin_on_first_use` notes them when it is first
    loaded.

    Args:
        model, tag, version: ``model.tag@version``; the version is ``X.Y.Z``.
        architecture_versions: versions of the architecture that the weights fit.
        manifest_sha256: of the manifest.json beside it, which pins all other files of a bundle.
        overrides: constructor arguments that differ from the model's, e.g. ``num_classes``.
        input: how these weights want their images; None means the family's default.
        labels: name of a label list (`zoo.catalog.tables.read_labels`).
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
        settle(self, who)
        require(bool(NAME.fullmatch(self.model)), f"{who}: model must match {NAME.pattern}")
        require(bool(NAME.fullmatch(self.tag)), f"{who}: tag must match {NAME.pattern}")
        require(bool(VERSION.fullmatch(self.version)), f"{who}: version must be X.Y.Z")
        require(
            bool(self.bundled) != bool(self.repo), f"{who}: give either bundled or repo, not both"
        )
        if self.repo:
            check_names(self.repo, self.file)
        plain = is_portable(self.bundled) and "/" not in self.bundled
        require(
            not self.bundled or plain, f"{who}: bundled must be a file name of the package's folder"
        )
        require(bool(self.architecture_versions), f"{who}: architecture_versions is empty")
        if self.pinned_on_first_use:
            require(
                bool(self.repo) and not (self.sha256 or self.size_bytes or self.revision),
                f"{who}: pinned_on_first_use goes with repo, without sha256, size_bytes, revision",
            )
        else:
            self._check_pin(who)

    def _check_pin(self, who: str) -> None:
        require(
            bool(SHA256.fullmatch(self.sha256)),
            f"{who}: sha256 must be 64 hexadecimal digits; got {self.sha256!r}",
        )
        require(self.size_bytes > 0, f"{who}: size_bytes must be positive; got {self.size_bytes}")
        require(
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
        layout: name of a renaming in `zoo.factory.importing.fitting.LAYOUTS`; empty: the keys are
            ours.
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
    overrides: Mapping[str, Any] = field(default_factory=dict)
    input: InputSpec | None = None
    dataset: str = ""
    licence: str = ""
    metrics: tuple[Metric, ...] = ()

    def __post_init__(self) -> None:
        who = f"checkpoint {self.name}"
        settle(self, who)
        require(bool(NAME.fullmatch(self.tag)), f"{who}: tag must match {NAME.pattern}")
        require(self.address.startswith("https://"), f"{who}: address must start with https://")

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
