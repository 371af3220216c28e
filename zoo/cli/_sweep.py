"""train --sweep: a grid of runs, and a table of what they reached."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from ..files.json_text import to_json
from ._console import table
from ._training_options import RECIPE_FIELDS, key_values, machine_of

_PARTS = ("validation", "test")


def run_sweep_command(model: str, options: dict[str, Any]) -> None:
    """Run the grid that the options name; what else is given replaces its own."""
    from ..training.sweep import get_grid, run_sweep

    grid = get_grid(options["sweep"])
    own = {name: options[name] for name in ("data", "recipe", "img_size")}
    own["model"] = model
    grid = replace(grid, **{key: value for key, value in own.items() if value})
    fields = {name: options[name] for name in RECIPE_FIELDS if name != "seed"}
    fields = {key: value for key, value in fields.items() if value is not None}
    grid = replace(grid, set={**grid.set, **key_values(options["fields"]), **fields})
    if options["seed"] is not None:
        grid = replace(grid, seeds=(options["seed"],))
    if options["fraction"] < 1:
        grid = replace(grid, fractions=(options["fraction"],))
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
