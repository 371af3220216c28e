"""train --sweep: a grid of runs, and a table of what they reached."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..files.json_text import to_json
from ._console import table
from ._given import given_options
from ._training_options import machine_of, recipe_changes

if TYPE_CHECKING:
    from ..training.sweep import Grid

_PARTS = ("validation", "test")


def run_sweep_command(model: str, options: dict[str, Any]) -> None:
    """Run the grid that the options name; what else is given replaces its own."""
    from ..training.sweep import get_grid, run_sweep

    grid = _changed(get_grid(options["sweep"]), model, options)
    machine = machine_of(options)

    def on_run(done: int, total: int, row: dict[str, Any]) -> None:
        found = row.get("error") or f"validation {row['validation']['acc1_percent']:.1f} %"
        click.echo(f"{done}/{total}  {row['run']}  {found}", err=True)

    content = run_sweep(grid, options["out"], machine, on_run)
    if options["as_json"]:
        click.echo(to_json(content, indent=2))
        return
    click.echo(sweep_table(content["rows"]))
    click.echo(f"wrote {options['out']}/sweep.json")


def _changed(grid: Grid, model: str, options: dict[str, Any]) -> Grid:
    """The grid with what the options say for all runs; MODEL takes the place of rows that name
    models and nothing else.

    Raises: click.UsageError for what rows of the grid say themselves.
    """
    own = {name: options[name] for name in ("data", "recipe", "img_size", "on_unreadable")}
    if not given_options("on_unreadable"):
        del own["on_unreadable"]
    own = {"model": model or None, **own}
    own = {key: value for key, value in own.items() if value is not None}
    fields = recipe_changes(options)
    if "model" in own and {frozenset(row) for row in grid.rows} == {frozenset({"model"})}:
        grid = replace(grid, rows=({},))  # one's own model in the place of those compared
    rows = grid.set_by_rows()
    for key in [k for k in own if k in rows] + [f for f in fields if f"recipe.{f}" in rows]:
        what = {"model": "MODEL", "img_size": "--img-size"}.get(key, key)
        raise click.UsageError(
            f"the rows of the grid {grid.name} say {key} themselves, so {what} would have no "
            f"effect; leave out {what}, or write a grid of your own"
        )
    if "seed" in fields:
        own["seeds"] = (fields.pop("seed"),)
    if options["fraction"] is not None:
        own["fractions"] = (options["fraction"],)
    return replace(grid, **own, set={**grid.set, **fields})


def sweep_table(rows: list[dict[str, Any]]) -> str:
    """One line for each setting and fraction: mean over the seeds, and of several the range."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for row in rows:
        key = ", ".join(f"{k}={v}" for k, v in row["settings"].items()) or "as registered"
        groups.setdefault((key, row["fraction"]), []).append(row)
    lines = [
        (key, f"{100 * fraction:g} %", str(len(group)), *(_mean(group, p) for p in _PARTS))
        for (key, fraction), group in groups.items()
    ]
    header = ("settings", "images", "seeds", *_PARTS)
    return table(header, lines, right=(1, 2, 3, 4))


def _mean(group: list[dict[str, Any]], part: str) -> str:
    found = [row[part]["acc1_percent"] for row in group if row[part] is not None]
    if not found:
        return "-"
    spread = f" ({min(found):.1f} to {max(found):.1f})" if len(found) > 1 else ""
    return f"{sum(found) / len(found):.1f}{spread}"
