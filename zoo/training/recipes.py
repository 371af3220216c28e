"""How to train, as data: the recipes of the papers, ours for small images, and how they change.

The numbers of the papers' recipes are those of the authors' code and configuration files; each
recipe says whose. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

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
        pipeline: "memory" holds all images preprocessed and moves them a little, in one go for each
            batch: for thousands of small images. "stream" decodes and augments image by image with
            timm's transforms, in `workers` processes.
        rotate_degrees, shift, scale: of "memory": uniform within +-; shift is a share of the side.
        crop: of "stream": "resized" (random part, random aspect) or "padded" (4 pixels, moved).
        interpolation, flip, color_jitter, rand_augment, erase, erase_mode: of "stream", as in timm.
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
    crop: str = "resized"
    interpolation: str = "bicubic"
    flip: float = 0.5
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
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                known = ", ".join(repr(choice) for choice in allowed)
                raise ConfigError(f"recipe: {name} must be one of {known}; got {value!r}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not value >= least:
                raise ConfigError(f"recipe: {name} must be at least {least}; got {value}")
        if not self.lr > 0:
            raise ConfigError(f"recipe: lr must be positive; got {self.lr}")
        for name in ("label_smoothing", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"recipe: {name} must be in [0, 1); got {getattr(self, name)}")

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
    "crop": ("resized", "padded"),
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
    "seed": 0,
}

_DEIT = Recipe(
    name="deit-convit",
    source="facebookresearch/convit main.py and README: DeiT's recipe (arXiv:2012.12877)",
    epochs=300,
    batch_size=1024,
    lr=5e-4,
    lr_batch=512,
    min_lr=1e-5,
    warmup_lr=1e-6,
    clip_norm=0.0,
    mixup=0.8,
    cutmix=1.0,
    pipeline="stream",
    color_jitter=0.4,
    rand_augment="rand-m9-mstd0.5-inc1",
    erase=0.25,
    repeats=3,
    drop_path=0.1,
    ema_decay=0.0,
    amp="fp16",
)
_HDVW_CIFAR = Recipe(
    name="hdvw-cifar",
    source="xxxnell/how-do-vits-work configs/cifar100_vit.yaml",
    epochs=300,
    batch_size=96,
    lr=1.25e-4,
    lr_batch=96,
    decay_all=True,
    warmup_prefix=True,
    clip_norm=5.0,
    mixup=1.0,
    cutmix=0.8,
    pipeline="stream",
    crop="padded",
    rand_augment="rand-m9-n2-mstd1.0",
    drop_path=0.1,
    ema_decay=0.0,
    amp="no",
)
_HDVW_CNN = Recipe(
    name="hdvw-cifar-cnn",
    source="xxxnell/how-do-vits-work configs/cifar100_general.yaml",
    epochs=200,
    batch_size=128,
    optimizer="sgd",
    lr=0.1,
    lr_batch=128,
    weight_decay=5e-4,
    decay_all=True,
    schedule="steps",
    milestones=(60, 120, 160),
    step_factor=0.2,
    warmup_epochs=1,
    warmup_prefix=True,
    clip_norm=0.0,
    label_smoothing=0.0,
    pipeline="stream",
    crop="padded",
    ema_decay=0.0,
    amp="no",
)
_DIGITS = Recipe(
    name="digits", source="ours: chosen by validation accuracy on the digits", epochs=80
)

_ALL = (
    _DIGITS,
    replace(
        _DIGITS, name="digits-short", source="ours: for what learns the digits fast", epochs=40
    ),
    replace(_DIGITS, name="small-data", source="ours: one short budget for all", epochs=18),
    Recipe(
        name="photos",
        source="ours: fine-tuning on a folder of photographs",
        epochs=30,
        batch_size=64,
        lr=5e-4,
        warmup_epochs=3,
        warmup_lr=1e-6,
        pipeline="stream",
        rand_augment="rand-m7-mstd0.5-inc1",
        erase=0.1,
        drop_path=0.1,
        ema_decay=0.99,
    ),
    _DEIT,
    replace(
        _DEIT,
        name="fcvit",
        source="ma-xu/FCViT train.py and README; its B48 takes drop_path 0.2",
        lr=1e-3,
        lr_batch=1024,
        min_lr=1e-6,
        interpolation="random",
        repeats=1,
    ),
    _HDVW_CIFAR,
    replace(
        _HDVW_CIFAR,
        name="hdvw-imagenet",
        source="xxxnell/how-do-vits-work configs/imagenet_vit.yaml",
        batch_size=128,
        lr_batch=128,
        clip_norm=0.0,
        crop="resized",
        interpolation="random",
        rand_augment="rand-m9-n2-mstd0.5",
        erase=0.25,
        erase_mode="const",
    ),
    _HDVW_CNN,
    replace(
        _HDVW_CNN,
        name="hdvw-imagenet-cnn",
        source="xxxnell/how-do-vits-work configs/imagenet_general.yaml",
        epochs=90,
        batch_size=256,
        lr_batch=256,
        weight_decay=1e-4,
        milestones=(30, 60, 80),
        step_factor=0.1,
        crop="resized",
        interpolation="random",
    ),
)
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in _ALL}


def get_recipe(name: str) -> Recipe:
    """A recipe by name. Raises: ConfigError that names the nearest."""
    if name in RECIPES:
        return RECIPES[name]
    hint = suggestion(name, RECIPES)
    raise ConfigError(f"unknown recipe {name!r}{hint}; the recipes are {', '.join(RECIPES)}")


def default_recipe(data: str) -> Recipe:
    """The recipe for a data set if none is named."""
    if data == "digits":
        return RECIPES["digits"]
    return RECIPES["hdvw-cifar" if data.startswith("cifar") else _by_place(data)]


def _by_place(data: str) -> str:
    return "deit-convit" if data.startswith("imagenet:") else "photos"


def scaled(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with the fields that are not None replaced.

    A warm-up longer than half of a shorter run is shortened to that. Raises: ConfigError.
    """
    changes = {key: value for key, value in changes.items() if value is not None}
    known = {entry.name for entry in fields(Recipe)}
    for key in changes.keys() - known:
        hint = suggestion(key, known) or f"; it has {', '.join(sorted(known))}"
        raise ConfigError(f"a recipe has no field {key!r}{hint}")
    changed = replace(recipe, **changes)
    if "epochs" in changes and "warmup_epochs" not in changes and not changed.warmup_prefix:
        changed = replace(changed, warmup_epochs=min(changed.warmup_epochs, changed.epochs // 2))
    return changed
