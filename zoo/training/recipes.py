"""The recipes of the papers, and ours for small images and photographs.

The numbers of the papers' recipes are those of the authors' code and configuration files; each
recipe says whose. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..catalog._data_sets import BY_NAME, DATA_SETS
from ..errors import ConfigError, suggestion
from .recipe import Recipe

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
    crop="resized",
    flip=0.5,
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
    flip=0.5,
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
    flip=0.5,
    ema_decay=0.0,
    amp="no",
)
_DIGITS = Recipe(
    name="digits", source="ours: chosen by validation accuracy on the digits", epochs=80
)

_SMALL = Recipe(
    name="small-images",
    source="ours: chosen by validation accuracy on 2,000 pictures of Fashion-MNIST",
    epochs=100,
    warmup_epochs=3,
    rotate_degrees=0.0,
    shift=0.0,
    scale=0.0,
    crop="padded",
    crop_pad=2,
    flip=0.5,
)

_PHOTOS = Recipe(
    name="photos",
    source="ours: fine-tuning on a folder of photographs",
    epochs=20,
    lr=1e-4,
    warmup_epochs=2,
    warmup_lr=1e-6,
    pipeline="stream",
    crop="resized",
    crop_scale=0.35,
    flip=0.5,
    rand_augment="rand-m7-mstd0.5-inc1",
    erase=0.1,
    drop_path=0.1,
)

_ALL = (
    _DIGITS,
    replace(
        _DIGITS, name="digits-short", source="ours: for what learns the digits fast", epochs=40
    ),
    replace(
        _DIGITS,
        name="fashion_mnist",
        source="ours: chosen by validation accuracy on Fashion-MNIST",
        epochs=10,
        warmup_epochs=1,
        rotate_degrees=0.0,
        scale=0.0,
        shift=0.0,
        crop="padded",
        crop_pad=2,
        flip=0.5,
        ema_decay=0.999,
    ),
    replace(_DIGITS, name="small-data", source="ours: one short budget for all", epochs=18),
    _SMALL,
    replace(
        _SMALL,
        name="small-images-cnn",
        source="ours: chosen on 3,000 more of these pictures, for convolutional networks",
        mixup=0.2,
        cutmix=1.0,
    ),
    _PHOTOS,
    replace(
        _PHOTOS,
        name="photos-scratch",
        source="ours: a folder of photographs, from random weights",
        epochs=100,
        lr=1e-3,
        warmup_epochs=5,
        crop_scale=0.2,
        mixup=0.2,
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
# Recipes for random weights: they start from no others unless these are asked for.
FROM_SCRATCH = ("photos-scratch",)


def get_recipe(name: str) -> Recipe:
    """A recipe by name. Raises: ConfigError that names the nearest."""
    if name in RECIPES:
        return RECIPES[name]
    hint = suggestion(name, RECIPES)
    raise ConfigError(f"unknown recipe {name!r}{hint}; the recipes are {', '.join(RECIPES)}")


def default_recipe(data: str) -> Recipe:
    """The recipe for a data set if none is named."""
    kind = data.partition(":")[0]
    if kind in BY_NAME and (kind == data or ":" in data):
        return RECIPES[DATA_SETS[kind].recipe]
    return RECIPES["hdvw-cifar" if data.startswith("cifar") else _by_place(data)]


def _by_place(data: str) -> str:
    return "deit-convit" if data.startswith("imagenet:") else "photos"
