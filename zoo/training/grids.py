"""Grids of runs as data: those that ship, and those that a file describes. No torch."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, suggestion
from ..files import read_regular_file
from .jobs import Job
from .recipes import get_recipe, scaled

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Runs that differ in a few settings.

    Args:
        name, about: what it answers.
        model, data, recipe: of all runs; a row may name another "model".
        set: fields of the recipe for all runs.
        rows: settings of each run: keywords of the model, "model", or "recipe.FIELD".
        grid: setting -> values; all combinations follow the rows.
        fractions: of the training images (`Job.fraction`).
        seeds: each row runs once for each.
    """

    name: str
    about: str = ""
    model: str = ""
    data: str = "digits"
    recipe: str = "small-data"
    set: Settings = field(default_factory=dict)
    rows: tuple[Settings, ...] = ()
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    fractions: tuple[float, ...] = (1.0,)
    seeds: tuple[int, ...] = (0, 1, 2)

    def settings(self) -> Iterator[Settings]:
        """The rows, then all combinations of the grid."""
        yield from self.rows
        if self.grid:
            for values in itertools.product(*self.grid.values()):
                yield dict(zip(self.grid, values, strict=True))

    def jobs(self) -> Iterator[tuple[Settings, Job]]:
        """Every run with its settings, seeds last. Raises: ConfigError."""
        for settings in self.settings():
            for fraction, seed in itertools.product(self.fractions, self.seeds):
                yield settings, self._job(settings, fraction, seed)

    def _job(self, settings: Settings, fraction: float, seed: int) -> Job:
        own = {key[7:]: value for key, value in settings.items() if key.startswith("recipe.")}
        config = {k: v for k, v in settings.items() if k != "model" and "recipe." not in k}
        model = settings.get("model", self.model)
        if not model:
            raise ConfigError(f"grid {self.name}: no model; give one, in the rows or for all")
        recipe = scaled(scaled(get_recipe(self.recipe), **self.set), **own)
        config = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
        return Job(
            model=model,
            data=self.data,
            recipe=replace(recipe, seed=seed),
            fraction=fraction,
            config=config,
        )


_FIXED = {"gating": "fixed", "gate_init": 0.0}
_ALL = (
    Grid(
        name="small-data",
        about="which architecture needs the fewest images",
        rows=tuple(
            {"model": name}
            for name in ("convit_nano", "alternet_nano", "hdvw_vit_nano", "resnet_nano")
        ),
        fractions=(0.05, 0.1, 0.3, 1.0),
    ),
    Grid(
        name="convit-ablation",
        about="table 3 of arXiv:2103.10697, rows a to g",
        model="convit_nano",
        rows=(
            {},
            _FIXED,
            {"use_local_init": False},
            {**_FIXED, "use_local_init": False},
            {"local_up_to_layer": 0},
            {**_FIXED, "freeze_gpsa": "layer"},
            {**_FIXED, "freeze_gpsa": "layer", "use_local_init": False},
        ),
        fractions=(0.1, 1.0),
    ),
    Grid(
        name="locality-strength",
        about="figure 8a of arXiv:2103.10697",
        model="convit_nano",
        grid={"locality_strength": (0.01, 0.1, 1.0)},
    ),
    Grid(
        name="gpsa-layers",
        about="how many layers are gated; figure 8 of arXiv:2103.10697",
        model="convit_nano",
        grid={"local_up_to_layer": (0, 1, 2, 3, 4)},
    ),
    Grid(
        name="kernel-size",
        about="the kernel of ConvAttention2d's projections",
        model="conv_attention_vit_nano",
        grid={"kernel_size": (1, 3, 5)},
    ),
    Grid(
        name="window",
        about="how far AlterNet's local attention looks",
        model="alternet_nano",
        grid={"window_size": (2, 4, 8)},
    ),
    Grid(
        name="drop-path",
        about="stochastic depth",
        model="convit_nano",
        grid={"drop_path_rate": (0.0, 0.1, 0.2, 0.3)},
    ),
)
GRIDS: Mapping[str, Grid] = {grid.name: grid for grid in _ALL}


def get_grid(reference: str) -> Grid:
    """A grid by name, or from a .json or .toml file with the fields of `Grid`.

    Raises: ConfigError that names the nearest, or what is wrong in the file; NotFoundError.
    """
    if reference in GRIDS:
        return GRIDS[reference]
    path = Path(reference)
    if path.suffix not in (".json", ".toml"):
        raise ConfigError(
            f"{reference!r} is neither a grid nor a .json or .toml file"
            f"{suggestion(reference, GRIDS)}; the grids are {', '.join(GRIDS)}"
        )
    data = read_regular_file(path, "grid")
    try:
        values = json.loads(data) if path.suffix == ".json" else tomllib.loads(data.decode())
        return _from_values(path.stem, values)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not a grid: {error}", code="grid") from None


def _from_values(name: str, values: Mapping[str, Any]) -> Grid:
    known = {entry.name for entry in fields(Grid)} - {"name"}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise ValueError(f"unknown {unknown[0]!r}; it may hold {', '.join(sorted(known))}")
    lists = ("rows", "fractions", "seeds")
    content = {k: tuple(v) if k in lists else v for k, v in values.items()}
    for key in lists:
        if key in content and not content[key]:
            raise ValueError(f"{key} is empty")
    content["grid"] = {key: tuple(v) for key, v in content.get("grid", {}).items()}
    grid = Grid(name=name, **content)
    if not list(grid.settings()):
        grid = replace(grid, rows=({},))
    list(grid.jobs())  # checks every run before the first one starts
    return grid
