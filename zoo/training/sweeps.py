"""Run a grid: one run directory for each setting, fraction and seed, and sweep.json over all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import DivergedError
from ..files import make_directory, read_regular_file, write_text
from ..measurement import provenance
from .grids import Grid, Settings
from .jobs import Job
from .learner import Machine
from .run import METRICS, is_finished, train_model
from .starting import tag_of

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
        "data": grid.data if grid.data == "digits" else tag_of(grid.data),
        "recipe": grid.recipe,
        "set": dict(grid.set),
        "rows": rows,
        **provenance(),
    }
    for settings, job in jobs:
        rows.append(_row(settings, job, out, machine))
        on_run(len(rows), len(jobs), rows[-1])
        write_text(out / FILE, json.dumps(content, indent=1) + "\n")
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
    metrics = json.loads(read_regular_file(out / name / METRICS, METRICS))
    kept = ("validation", "test", "training_images", "seconds")
    return {**row, **{key: metrics[key] for key in kept}}


def _directory(settings: Settings, job: Job) -> str:
    """A name for a run that says what can be said and is its own."""
    unseeded = replace(job, recipe=replace(job.recipe, seed=0), fraction=1.0).to_dict()
    digest = hashlib.sha256(json.dumps([unseeded, dict(settings)]).encode()).hexdigest()[:6]
    share = f"{100 * job.fraction:g}".replace(".", "_")
    return f"{tag_of(job.model)}-{digest}-{share}percent-seed{job.recipe.seed}"
