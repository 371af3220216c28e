"""Small models, recipes and image folders for the tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.training.job import Job
from zoo.training.recipe import Recipe, scaled
from zoo.training.recipes import RECIPES

SMALL = {"depth": 2, "embed_dim": 32, "local_up_to_layer": 1}
CLASSES = ("blue", "green", "red")


def recipe(**changes: Any) -> Recipe:
    """Two epochs in memory."""
    return scaled(RECIPES["digits"], **{"epochs": 2, "warmup_epochs": 1, "lr": 3e-3, **changes})


def digits_job(**changes: Any) -> Job:
    """A small ConViT on a tenth of the digits: ten epochs, validated once."""
    own = {key: changes.pop(key) for key in tuple(changes) if key not in Job.__dataclass_fields__}
    settings = {"model": "convit_nano", "data": "digits", "config": SMALL, "fraction": 0.1}
    settings["recipe"] = recipe(epochs=1, **own) if "epochs" not in own else recipe(**own)
    return Job(**{**settings, **changes})


def write_folder(root: Path, count: int = 10, size: tuple[int, int] = (24, 20)) -> Path:
    """``root/CLASS/*.png``: noise around the colour that the class is named after."""
    generator = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        folder = root / name
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 120, (*size, 3), dtype=np.uint8)
            pixels[..., 2 - number] += 120
            Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return root


def states_equal(first: Any, second: Any) -> bool:
    """Whether two state dicts have the same bits."""
    return first.keys() == second.keys() and all((first[key] == second[key]).all() for key in first)
