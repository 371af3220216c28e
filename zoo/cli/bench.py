"""bench: what a model and its loading cost, beside other ways, in one process.

What the repository measures of itself besides is `python -m benchmarks.attention`, `.start` and
`.export_comparison`, which share the options here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..files.json_text import to_json
from ._console import table
from ._given import given_options
from ._options import model_options, trust_option
from ._references import ModelReference

threads_option = click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(1), help="Of torch and the rest."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
out_option = click.option(
    "--out", type=click.Path(path_type=Path), help="Also write the numbers here, with provenance."
)


def rounds_option(default: int) -> Callable[[Any], Any]:
    return click.option(
        "--rounds", default=default, show_default=True, type=click.IntRange(3), help="Timed rounds."
    )


@click.group("bench")
def bench_command() -> None:
    """Measure cost beside peers: interleaved rounds, medians, 95 % intervals of the ratios."""


def say(text: str) -> None:
    click.echo(f"  {text}", err=True)


def write_result(out: Path | None, name: str, content: dict[str, Any]) -> None:
    from ..files.local import write_text

    if out is not None:
        write_text(out / f"bench-{name}.json", to_json(content, indent=1) + "\n")
        say(f"wrote {out / f'bench-{name}.json'}")


def _write_speed(out: Path, content: dict[str, Any], provider: str) -> None:
    """OUT/NAME/speed.json of every model, with the GPU in the file's name where one ran it."""
    from ..files.local import write_text

    device = ""
    if provider != "cpu":
        import torch

        device = f"-{torch.cuda.get_device_name().replace(' ', '_')}"
    how = {key: value for key, value in content.items() if key != "models"}
    for entry in content["models"]:
        folder = re.sub(r"[^\w.+-]", "_", entry["name"])
        path = out / folder / f"speed{device}.json"
        write_text(path, to_json({**entry, **how}, indent=1) + "\n")
        say(f"wrote {path}")


def measured(content: dict[str, Any]) -> dict[str, Any]:
    from ..files.provenance import provenance

    return {**content, **provenance(seed=0)}


class _Size(click.ParamType):
    name = "SIZE"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        found = re.fullmatch(r"(\d+)(?:x(\d+))?", str(value))
        if found is None or int(found[1]) < 1 or int(found[2] or 1) < 1:
            self.fail(f"{value!r} is not a size; expected PIXELS or HEIGHTxWIDTH", param, ctx)
        return int(found[1]), int(found[2] or found[1])


@bench_command.command("model")
@click.argument("models", type=ModelReference(), nargs=-1, required=True, metavar="MODEL...")
@click.option("--size", type=_Size(), help="PIXELS or HEIGHTxWIDTH; default: the model's own.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1), help="Images.")
@threads_option
@rounds_option(30)
@click.option(
    "--provider", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]),
    help="Where all of them run.",
)  # fmt: skip
@trust_option()
@model_options(weights=False)
@click.option("--compile/--no-compile", "compiled", default=True, help="Include torch.compile.")
@out_option
@json_option
def model_command(models: tuple[str, ...], out: Path | None, as_json: bool, **options: Any) -> None:
    """Latency of each MODEL (any reference, or an exported file) in every form that runs here."""
    from export.speed.side_by_side import LatencySettings, bench_model

    _refuse_idle(models)
    keywords = options.pop("keywords")
    settings = LatencySettings(**options)
    found = []
    for model in models:
        say(f"{model}:")
        result = bench_model(model, settings, say, keywords)
        found.append(result.to_dict())
        if not as_json:
            _show_model(found[-1])
    content = measured({"models": found})
    if out is not None:
        _write_speed(out, content, options["provider"])
    if as_json:
        click.echo(to_json(content, indent=2))


def _refuse_idle(models: tuple[str, ...]) -> None:
    """Raises: click.UsageError for what an exported file among the models cannot heed."""
    from ..catalog.references import kind_of

    files = [model for model in models if kind_of(model) == "file"]
    idle = given_options("keywords") if files else []
    idle += given_options("compiled") if len(files) == len(models) else []
    if idle:
        raise click.UsageError(
            f"{', '.join(idle)} would have no effect: {files[0]} is finished; leave it out"
        )


def _show_model(found: dict[str, Any]) -> None:
    batch, chans, height, width = found["shape"]
    click.echo(
        f"{found['name']}, {batch} x {chans} x {height} x {width} on {found['provider']}, "
        f"{found['threads']} thread(s); weights: {found['weights']}"
    )
    rows = [
        (
            row["by"],
            *(f"{row[key]:.2f}" for key in ("median_ms", "p90_ms", "p99_ms", "min_ms")),
            f"{row['images_per_s']:.1f}",
            _ratio(row["of_eager"]),
            f"{row['max_abs_difference']:.1e}",
        )
        for row in found["candidates"]
    ]
    header = ("run by", "p50 ms", "p90", "p99", "min", "images/s", "of eager", "difference")
    click.echo(table(header, rows, right=(1, 2, 3, 4, 5)))
    for name, why in found["skipped"].items():
        click.echo(f"{name}: skipped, {why}")


def _ratio(found: dict[str, Any]) -> str:
    low, high = found["interval95"]
    return f"{found['value']:.2f} ({low:.2f} to {high:.2f})"


@bench_command.command("load")
@click.argument("model", type=ModelReference(), default="convit_base")
@threads_option
@rounds_option(10)
@out_option
@json_option
def load_command(model: str, threads: int, rounds: int, out: Path | None, as_json: bool) -> None:
    """Time to create MODEL (an architecture or a directory) with verified weights, by steps."""
    from export.speed.loading_cost import bench_load

    found = bench_load(model, rounds, threads, say).to_dict()
    content = measured(found)
    write_result(out, "load", content)
    if as_json:
        click.echo(to_json(content, indent=2))
        return
    click.echo(f"{found['name']}, {found['size_bytes'] / 1e6:.1f} MB of weights")
    steps = {**found["steps"], "create + load, less the SHA-256 pass": found["without_digest"]}
    rows = [(name, f"{t['median_ms']:.1f}", f"{t['min_ms']:.1f}") for name, t in steps.items()]
    click.echo(table(("step", "median ms", "min ms"), rows, right=(1, 2)))
    for name, why in found["skipped"].items():
        click.echo(f"{name}: skipped, {why}")
