"""What `convattn train` does if it is not told: which recipe, and from which weights."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..catalog.references import kind_of
from ..catalog.registry import get_record
from ..data.dataset import ImageDataset
from ..data.image_reading import UNREADABLE
from ..data.opening import open_dataset, parse_spec
from .batches import MEMORY_LIMIT, Images
from .recipe import Recipe, scaled
from .recipes import FROM_SCRATCH, RECIPES, default_recipe, get_recipe
from .start import check_name

SMALL_SIDE = 64  # pixels: inputs up to here are "small images"
SEEN = 120_000  # images that a run on small images sees: minutes on two cores for a nano model
_LEAST, _MOST = 10, 100  # epochs of such a run
_SAMPLE = 32  # images that are looked at for their size
# Keywords of a model that leave the shape of its weights alone.
_HARMLESS = {"drop_rate", "drop_path_rate", "attn_drop_rate", "proj_drop_rate", "img_size"}


@dataclass(frozen=True)
class Defaults:
    """Recipe and start of a run that does not name both.

    Args:
        recipe: the recipe.
        start: reference of the weights to start from; "": random weights.
        reason: one line that says what was chosen, and why.
    """

    recipe: Recipe
    start: str
    reason: str


def choose_defaults(
    model: str,
    data: str,
    *,
    recipe: str | None = None,
    start: str | None = None,
    img_size: tuple[int, int] | None = None,
    config: Mapping[str, Any] | None = None,
    epochs: int | None = None,
) -> Defaults:
    """The recipe and the start for a model on data.

    A data set that we know by name has its own recipe, which starts from random weights: a start
    that has seen the data would make the result worthless. A folder gets "small-images" where the
    model's input has at most 64 pixels a side, with as many epochs as make up 120,000 images seen
    (10 to 100), and "small-images-cnn" where the model has convolutions alone; "photos" where
    weights of the model exist, else "photos-scratch".

    Args:
        recipe: name of the one asked for; those of `FROM_SCRATCH` start from random weights.
        start: weights that were asked for; "": random ones; None: leave the choice to this.
        img_size: of the input, if it is not the model's own.
        config: keywords of the model; weights fit only without such that change its shape.
        epochs: that were asked for.
    Raises: ConfigError, UnknownModelError; NotFoundError, DatasetError for the data.
    """
    check_name(model)
    known = parse_spec(data)[0] != "folder"
    origin = f"starts from {start}" if start else "random weights"
    if start is None and not known and recipe not in FROM_SCRATCH:
        start, origin = _start(model, config or {})
    start = start or ""
    if recipe is not None:
        chosen, what = get_recipe(recipe), ""
    elif known:
        chosen, what = default_recipe(data), ", of the data set"
    else:
        chosen, what = _recipe_of_folder(model, open_dataset(data, "train"), start, img_size)
    if epochs is not None:
        chosen = scaled(chosen, epochs=epochs)
    return Defaults(chosen, start, f"recipe {chosen.name}, {chosen.epochs} epochs{what}; {origin}")


def _recipe_of_folder(
    model: str, images: ImageDataset, start: str, img_size: tuple[int, int] | None
) -> tuple[Recipe, str]:
    """The recipe for a folder's training images, and the facts that it follows from."""
    height, width = img_size or _input_size(model)
    what = f": {len(images)} images of about {_median_side(images)} pixels at {height} x {width}"
    if max(height, width) > SMALL_SIDE or 12 * len(images) * height * width > MEMORY_LIMIT:
        return RECIPES["photos" if start else "photos-scratch"], what
    fitting = min(_MOST, max(_LEAST, round(SEEN / len(images))))
    name = "small-images-cnn" if _is_convolutional(model) else "small-images"
    return replace(RECIPES[name], epochs=fitting), what


def _start(model: str, config: Mapping[str, Any]) -> tuple[str, str]:
    """Weights to start from, or "" if there are none, and how to say so."""
    if kind_of(model) != "name":
        return "", f"random weights (--finetune-from {model} starts from timm's)"
    changed = sorted(config.keys() - _HARMLESS)
    selected = get_record(model).selected
    if selected is None:
        return "", f"random weights: {model} has none that load by name"
    if changed:
        return "", f"random weights: those of {model} do not fit --config {changed[0]}"
    return selected.name, f"starts from {selected.name} (--from-scratch: random weights)"


def _is_convolutional(model: str) -> bool:
    return kind_of(model) == "name" and get_record(model).family.convolutional


def _input_size(model: str) -> tuple[int, int]:
    return get_record(model).input.size if kind_of(model) == "name" else (224, 224)


def _median_side(images: Images) -> int:
    """Of the shorter sides of a sample, evenly spread; what cannot be read is met later."""
    places = np.unique(np.linspace(0, len(images) - 1, min(len(images), _SAMPLE)).astype(int))
    sides = []
    for place in places:
        with contextlib.suppress(*UNREADABLE):
            sides.append(min(images[int(place)][0].shape[:2]))
    return int(np.median(sides)) if sides else 0
