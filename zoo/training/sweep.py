"""Run a grid: one run directory for each setting, fraction and seed, and sweep.json over all."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..catalog.checked_json import Document
from ..errors import ConfigError, DivergedError, suggestion
from ..files.json_text import to_json
from ..files.listed import read_document
from ..files.local import make_directory, read_regular_file, write_text
from ..files.provenance import provenance
from .job import Job
from .machine import Machine
from .recipe import scaled
from .recipes import get_recipe
from .run import DOCUMENT, METRICS, is_finished, train_model
from .start import check_drop_path, check_keywords, tag_of

FILE = "sweep.json"


def run_sweep(
    grid: Grid,
    out: str | Path,
    machine: Machine | None = None,
    on_run: Callable[[int, int, dict[str, Any]], None] = lambda done, total, row: None,
) -> dict[str, Any]:
    """Train all runs of a grid; runs that `out` holds already are read, not repeated.

    Args:
        on_run: called after each run with how many are done, of how many, and its row.
    Returns: what sweep.json holds. A run whose loss became NaN has the `error` in its row.
    Raises: ConfigError if `out` holds other runs under these names; what `train_model` raises.
    """
    out = make_directory(out)
    jobs = list(grid.jobs())
    rows: list[dict[str, Any]] = []
    content: dict[str, Any] = {
        "name": grid.name,
        "about": grid.about,
        "model": grid.model,
        "data": tag_of(grid.data),
        "recipe": grid.recipe,
        "img_size": grid.img_size,
        "set": dict(grid.set),
        "rows": rows,
        **provenance(),
    }
    for settings, job in jobs:
        rows.append(_row(settings, job, out, machine))
        on_run(len(rows), len(jobs), rows[-1])
        write_text(out / FILE, to_json(content, indent=1) + "\n")
    return content


def _row(settings: Settings, job: Job, out: Path, machine: Machine | None) -> dict[str, Any]:
    name = _directory(settings, job)
    row = {
        "settings": dict(settings),
        "fraction": job.fraction,
        "seed": job.recipe.seed,
        "run": name,
    }
    if not is_finished(out / name, job):
        try:
            train_model(job, out / name, machine=machine, resume=True, report=False)
        except DivergedError as error:
            return {**row, "error": str(error), "validation": None, "test": None}
    metrics = read_document(DOCUMENT, out / name / METRICS)
    kept = ("validation", "test", "training_images", "seconds")
    return {**row, **{key: metrics[key] for key in kept}}


def _directory(settings: Settings, job: Job) -> str:
    """A name for a run that says what can be said and is its own."""
    unseeded = replace(job, recipe=replace(job.recipe, seed=0), fraction=1.0).to_dict()
    digest = hashlib.sha256(json.dumps([unseeded, dict(settings)]).encode()).hexdigest()[:6]
    share = f"{100 * job.fraction:g}".replace(".", "_")
    return f"{tag_of(job.model.replace(':', '_'))}-{digest}-{share}percent-seed{job.recipe.seed}"


Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Runs that differ in a few settings.

    Args:
        name, about: what it answers.
        model, data, recipe, img_size, on_unreadable: of all runs, as in `Job`; a row may name
            another "model".
        set: fields of the recipe for all runs.
        rows: settings of each run: keywords of the model, "model", or "recipe.FIELD".
        grid: setting -> values; all combinations follow the rows.
        fractions: of the training images (`Job.fraction`).
        seeds: each row runs once for each.
        one_seed_from: fractions from this one on run with the first seed only.
    """

    name: str
    about: str = ""
    model: str = ""
    data: str = "digits"
    recipe: str = "small-data"
    img_size: int | tuple[int, int] | None = None
    on_unreadable: str = "stop"
    set: Settings = field(default_factory=dict)
    rows: tuple[Settings, ...] = ()
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    fractions: tuple[float, ...] = (1.0,)
    seeds: tuple[int, ...] = (0, 1, 2)
    one_seed_from: float = math.inf

    def settings(self) -> Iterator[Settings]:
        """The rows, then all combinations of the grid."""
        yield from self.rows
        if self.grid:
            for values in itertools.product(*self.grid.values()):
                yield dict(zip(self.grid, values, strict=True))

    def jobs(self) -> Iterator[tuple[Settings, Job]]:
        """Every run with its settings: all with the first seed, then all with the next, so that
        what was stopped half-way compares alike with alike. Raises: ConfigError.
        """
        for seed, settings, fraction in itertools.product(
            self.seeds, list(self.settings()), self.fractions
        ):
            if seed == self.seeds[0] or fraction < self.one_seed_from:
                yield settings, self._job(settings, fraction, seed)

    def set_by_rows(self) -> set[str]:
        """The settings that a row or the grid makes: what is said for all runs loses to these."""
        return {key for settings in self.settings() for key in settings}

    def _job(self, settings: Settings, fraction: float, seed: int) -> Job:
        own = {key[7:]: value for key, value in settings.items() if key.startswith("recipe.")}
        config = {k: v for k, v in settings.items() if k != "model" and "recipe." not in k}
        model = settings.get("model", self.model)
        if not model or not isinstance(model, str):
            raise ConfigError(f"grid {self.name}: no model; give one, in the rows or for all")
        if "seed" in {**self.set, **own}:
            raise ConfigError(f"grid {self.name}: seed is no setting; give seeds = [...] for all")
        recipe = scaled(scaled(get_recipe(self.recipe), **self.set), **own)
        config = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
        check_keywords(model, config)
        check_drop_path(model, {**self.set, **own}, config)
        return Job(
            model=model,
            data=self.data,
            recipe=replace(recipe, seed=seed),
            fraction=fraction,
            img_size=self.img_size,
            on_unreadable=self.on_unreadable,
            config=config,
        )


_FIXED = {"gating": "fixed", "gate_init": 0.0}
# Every run sees 100,000 images, however few there are.
_CLOTHES: Mapping[str, Any] = {
    "data": "fashion_mnist",
    "recipe": "fashion_mnist",
    "img_size": 28,
    "set": {"epochs": 2},
}
_ALL = (
    Grid(
        name="small-data",
        about="which architecture needs the fewest images; table 2 of arXiv:2103.10697",
        rows=tuple(
            {"model": name}
            for name in ("convit_nano", "hdvw_vit_nano", "resnet_nano", "alternet_nano")
        ),
        fractions=(0.005, 0.01, 0.05, 0.1, 0.3, 1.0),
        one_seed_from=0.3,
        **_CLOTHES,
    ),
    Grid(
        name="convit-ablation",
        about="table 3 of arXiv:2103.10697, rows a to g",
        model="convit_nano",
        **_CLOTHES,
        rows=(
            {},
            _FIXED,
            {"use_local_init": False},
            {**_FIXED, "use_local_init": False},
            {"local_up_to_layer": 0},
            {**_FIXED, "freeze_gpsa": "layer"},
            {**_FIXED, "freeze_gpsa": "layer", "use_local_init": False},
        ),
        fractions=(0.1,),
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
        **_CLOTHES,
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
_TABLE: Document[dict[str, Any]] = Document(dict[str, Any], "grid", "grid", "correct it")
_GRID = Document(Grid, "grid", "grid", "correct it")
_MAX_RUNS = 100_000
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
    data = read_regular_file(path, "grid", _TABLE.max_bytes)
    if path.suffix == ".json":
        return _from_values(path, _TABLE.parse(data, str(path)))
    try:
        return _from_values(path, tomllib.loads(data.decode()))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise _TABLE.refusal(str(path), str(error)) from None


def _from_values(path: Path, values: Mapping[str, Any]) -> Grid:
    grid = _GRID.check({**values, "name": path.stem}, str(path))
    lists = {key: values[key] for key in ("rows", "fractions", "seeds") if key in values}
    for key, entries in (*lists.items(), *grid.grid.items()):
        if not entries:
            raise _GRID.refusal(str(path), f"{key} is empty")
        if len({json.dumps(entry, sort_keys=True, default=str) for entry in entries}) < len(
            entries
        ):
            raise _GRID.refusal(str(path), f"{key} has an entry twice, which would run once")
    runs = math.prod(map(len, (*grid.grid.values(), grid.fractions, grid.seeds)))
    if runs + len(grid.rows) > _MAX_RUNS:
        raise _GRID.refusal(str(path), f"it asks for more than {_MAX_RUNS} runs")
    if not list(grid.settings()):
        grid = replace(grid, rows=({},))
    list(grid.jobs())  # checks every run before the first one starts
    return grid
