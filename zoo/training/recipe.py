"""How to train, as data: `Recipe`, and how one changes. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

from ..catalog.frozen import settle
from ..errors import ConfigError, suggestion


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    Args:
        name, source: what to call it, and whose it is.
        epochs: passes over the data, warm-up included unless `warmup_prefix`.
        batch_size: images per step over all processes, so that one process and eight take the same
            steps.
        optimizer: "adamw" or "sgd" (momentum, not Nesterov's).
        lr, lr_batch: the rate is ``lr * batch_size / lr_batch``, or `lr` itself if `lr_batch` is 0.
        weight_decay, decay_all: decay also one-dimensional parameters, and those that the model's
            `no_weight_decay` names.
        schedule: "cosine" to `min_lr`, or "steps": times `step_factor` at the epochs `milestones`.
        warmup_epochs, warmup_lr, warmup_prefix: linear per step from `warmup_lr`; a prefix comes
            before `epochs`, otherwise it is part of them.
        clip_norm: largest norm of the gradient; 0 does not clip.
        label_smoothing, mixup, cutmix: of the targets and of pairs of images; one of the two each
            batch, with equal probability.
        pipeline: "memory" holds all images preprocessed and changes them a little, in one go for
            each batch: for thousands of small images. "stream" decodes and augments image by image
            with timm's transforms, in `workers` processes.
        rotate_degrees, shift, scale: of "memory": uniform within +-; shift is a share of the side.
        crop: "padded" (by `crop_pad` pixels, moved), "none", or, of "stream", "resized" (a random
            part of at least `crop_scale` of the area, random aspect).
        flip, erase: probability that an image is mirrored, that a rectangle of it is erased.
        interpolation, color_jitter, rand_augment, erase_mode: of "stream", as in timm.
        repeats: augmented copies of an image in an epoch, which takes that many fewer images
            (Hoffer et al., arXiv:1901.09335).
        drop_path: stochastic depth; None leaves the model's own.
        ema_decay: of the running average of the weights that is then evaluated and kept; 0: none.
        amp: "no", "bf16" or "fp16"; "" leaves the choice to `accelerate launch`.
        validate_every: epochs between two looks at the validation part.
        seed: of initialisation, order, augmentation and dropout.
    """

    name: str = "custom"
    source: str = ""
    epochs: int = 90
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 2e-3
    lr_batch: int = 64
    weight_decay: float = 0.05
    decay_all: bool = False
    schedule: str = "cosine"
    min_lr: float = 0.0
    milestones: tuple[int, ...] = ()
    step_factor: float = 0.1
    warmup_epochs: int = 5
    warmup_lr: float = 0.0
    warmup_prefix: bool = False
    clip_norm: float = 1.0
    label_smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    pipeline: str = "memory"
    rotate_degrees: float = 10.0
    shift: float = 0.06
    scale: float = 0.1
    crop: str = "none"
    crop_pad: int = 4
    crop_scale: float = 0.08
    interpolation: str = "bicubic"
    flip: float = 0.0
    color_jitter: float = 0.0
    rand_augment: str = ""
    erase: float = 0.0
    erase_mode: str = "pixel"
    repeats: int = 1
    drop_path: float | None = None
    ema_decay: float = 0.99
    amp: str = ""
    validate_every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        settle(self, "recipe", "config")
        _check_values(self)
        if not self.lr > 0:
            raise ConfigError(f"recipe: lr must be positive; got {self.lr}")
        if self.min_lr > max(self.lr, self.scaled_lr):
            raise ConfigError(f"recipe: min_lr {self.min_lr} is above the rate, lr {self.lr}")
        if any(early >= late for early, late in pairwise((0, *self.milestones))):
            raise ConfigError(f"recipe: milestones must be ascending epochs; got {self.milestones}")
        if self.crop == "resized" and self.pipeline != "stream":
            raise ConfigError(
                "recipe: crop 'resized' needs the pipeline 'stream'; in memory images are moved by "
                "scale and shift, or cropped after padding (crop 'padded')"
            )
        _refuse_idle(self, [name for name in _ONLY if getattr(self, name) != _DEFAULTS[name]])

    @property
    def total_epochs(self) -> int:
        """Epochs with a warm-up prefix counted."""
        return self.epochs + (self.warmup_epochs if self.warmup_prefix else 0)

    @property
    def scaled_lr(self) -> float:
        """The learning rate for this batch size."""
        return self.lr * self.batch_size / self.lr_batch if self.lr_batch else self.lr


_CHOICES = {
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "steps"),
    "pipeline": ("memory", "stream"),
    "crop": ("resized", "padded", "none"),
    "interpolation": ("bicubic", "bilinear", "random"),
    "erase_mode": ("pixel", "const", "rand"),
    "amp": ("", "no", "bf16", "fp16"),
}
_LEAST = {"epochs": 1, "batch_size": 2, "repeats": 1, "warmup_epochs": 0, "lr_batch": 0}
_LEAST |= {
    "validate_every": 1,
    "mixup": 0,
    "cutmix": 0,
    "clip_norm": 0,
    "weight_decay": 0,
    "min_lr": 0,
    "warmup_lr": 0,
    "color_jitter": 0,
    "seed": 0,
    "crop_pad": 0,
}
# Closed ranges, then those without their upper end.
_RANGES = {"flip": 1, "erase": 1, "shift": 1, "crop_scale": 1, "step_factor": 1}
_RANGES |= {"rotate_degrees": 180}
_BELOW_ONE = ("label_smoothing", "ema_decay", "scale", "drop_path")
_DEFAULTS = {entry.name: entry.default for entry in fields(Recipe)}


def _check_values(recipe: Recipe) -> None:
    """Raises: ConfigError for a value that is not allowed by the tables."""
    for name, value in vars(recipe).items():
        if name in _CHOICES and value not in _CHOICES[name]:
            known = ", ".join(repr(choice) for choice in _CHOICES[name])
            raise ConfigError(f"recipe: {name} must be one of {known}; got {value!r}")
        if name in _LEAST and value < _LEAST[name]:
            raise ConfigError(f"recipe: {name} must be at least {_LEAST[name]}; got {value}")
        if name in _RANGES and not 0 <= value <= _RANGES[name]:
            raise ConfigError(f"recipe: {name} must be in [0, {_RANGES[name]}]; got {value}")
        if name in _BELOW_ONE and value is not None and not 0 <= value < 1:
            raise ConfigError(f"recipe: {name} must be in [0, 1); got {value}")


# Fields that only some recipes look at: field -> (field, its value there).
_ONLY = {
    "milestones": ("schedule", "steps"),
    "step_factor": ("schedule", "steps"),
    "min_lr": ("schedule", "cosine"),
    "rotate_degrees": ("pipeline", "memory"),
    "shift": ("pipeline", "memory"),
    "scale": ("pipeline", "memory"),
    "interpolation": ("pipeline", "stream"),
    "color_jitter": ("pipeline", "stream"),
    "rand_augment": ("pipeline", "stream"),
    "erase_mode": ("pipeline", "stream"),
    "crop_scale": ("crop", "resized"),
    "crop_pad": ("crop", "padded"),
}


def scaled(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with these fields replaced.

    A warm-up longer than half of a shorter run is shortened to that. What the recipe never looks at
    after the change takes its default.
    Raises: ConfigError, also for a change of what the recipe then never looks at.
    """
    for key in changes.keys() - _DEFAULTS.keys():
        hint = suggestion(key, _DEFAULTS) or f"; it has {', '.join(sorted(_DEFAULTS))}"
        raise ConfigError(f"a recipe has no field {key!r}{hint}")
    then = {**vars(recipe), **changes}
    idle = {key: _DEFAULTS[key] for key, (other, needed) in _ONLY.items() if then[other] != needed}
    changed = replace(recipe, **{**idle, **changes})
    _refuse_idle(changed, changes)
    if "epochs" in changes and "warmup_epochs" not in changes and not changed.warmup_prefix:
        changed = replace(changed, warmup_epochs=min(changed.warmup_epochs, changed.epochs // 2))
    return changed


def _refuse_idle(recipe: Recipe, names: Iterable[str]) -> None:
    """Raises: ConfigError for the first field of these that the recipe never looks at."""
    asked = set(names)
    for key, (other, needed) in _ONLY.items():
        has = getattr(recipe, other)
        if key in asked and has != needed:
            raise ConfigError(
                f"{key} has no effect on the recipe {recipe.name}, whose {other} is {has!r}: it is "
                f"of {other} {needed!r}; leave {key} out, or change {other} too"
            )
