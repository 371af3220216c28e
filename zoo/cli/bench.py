"""bench: what things cost, beside peers, in one process. model and load run anywhere; attention,
export and start need a checkout.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypedDict

import click

from ..catalog.checked_json import Document
from ..files.json_text import to_json
from ._console import table
from ._options import model_options, trust_option
from ._references import ModelReference

HOME = Path(__file__).resolve().parents[2] / "benchmarks"


class _Groups(TypedDict):
    groups: dict[str, Any]


_GROUPS = Document(_Groups, "bench file", "bench", "delete it, and measure again")
_threads = click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(1), help="Of torch and the rest."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_out = click.option(
    "--out", type=click.Path(path_type=Path), help="Also write the numbers here, with provenance."
)


def _rounds(default: int) -> Callable[[Any], Any]:
    return click.option(
        "--rounds", default=default, show_default=True, type=click.IntRange(3), help="Timed rounds."
    )


@click.group("bench")
def bench_command() -> None:
    """Measure cost beside peers: interleaved rounds, medians, 95 % intervals of the ratios."""


def _say(text: str) -> None:
    click.echo(f"  {text}", err=True)


def benchmarks(module: str) -> ModuleType:
    """A module of the repository's benchmarks. Raises: ConfigError outside a checkout."""
    from ..errors import ConfigError

    if not (HOME / "__init__.py").is_file():
        raise ConfigError(
            "this measurement runs in a checkout of the repository, with its benchmarks/ beside "
            "zoo/; clone it and install with `pip install -e .`. `convattn bench model` and "
            "`convattn bench load` run from an installed package",
            code="no_checkout",
        )
    if "benchmarks" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "benchmarks", HOME / "__init__.py", submodule_search_locations=[str(HOME)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules["benchmarks"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["benchmarks"])
    return importlib.import_module(f"benchmarks.{module}")


def _write(out: Path | None, name: str, content: dict[str, Any]) -> None:
    from ..files.local import write_text

    if out is not None:
        write_text(out / f"bench-{name}.json", to_json(content, indent=1) + "\n")
        _say(f"wrote {out / f'bench-{name}.json'}")


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
        _say(f"wrote {path}")


def _measured(content: dict[str, Any]) -> dict[str, Any]:
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
@_threads
@_rounds(30)
@click.option(
    "--provider", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]),
    help="Where all of them run.",
)  # fmt: skip
@trust_option()
@model_options(weights=False)
@click.option("--compile/--no-compile", "compiled", default=True, help="Include torch.compile.")
@_out
@_json
def model_command(models: tuple[str, ...], out: Path | None, as_json: bool, **options: Any) -> None:
    """Latency of each MODEL (any reference, or an exported file) in every form that runs here."""
    from export.speed.side_by_side import LatencySettings, bench_model

    keywords = options.pop("keywords")
    settings = LatencySettings(**options)
    found = []
    for model in models:
        _say(f"{model}:")
        result = bench_model(model, settings, _say, keywords)
        found.append(result.to_dict())
        if not as_json:
            _show_model(found[-1])
    content = _measured({"models": found})
    if out is not None:
        _write_speed(out, content, options["provider"])
    if as_json:
        click.echo(to_json(content, indent=2))


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
@_threads
@_rounds(10)
@_out
@_json
def load_command(model: str, threads: int, rounds: int, out: Path | None, as_json: bool) -> None:
    """Time to create MODEL (an architecture or a directory) with verified weights, by steps."""
    from export.speed.loading_cost import bench_load

    found = bench_load(model, rounds, threads, _say).to_dict()
    content = _measured(found)
    _write(out, "load", content)
    if as_json:
        click.echo(to_json(content, indent=2))
        return
    click.echo(f"{found['name']}, {found['size_bytes'] / 1e6:.1f} MB of weights")
    steps = {**found["steps"], "create + load, less the SHA-256 pass": found["without_digest"]}
    rows = [(name, f"{t['median_ms']:.1f}", f"{t['min_ms']:.1f}") for name, t in steps.items()]
    click.echo(table(("step", "median ms", "min ms"), rows, right=(1, 2)))
    for name, why in found["skipped"].items():
        click.echo(f"{name}: skipped, {why}")


@bench_command.command("attention")
@click.option("--group", "groups", multiple=True, help="Only this group of goals; repeatable.")
@_threads
@_rounds(100)
@click.option(
    "--seconds", default=8.0, show_default=True, type=click.FloatRange(0.1), help="Per comparison."
)
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Also draw time and memory: .png or .svg."
)
@_out
@_json
def attention_command(
    groups: tuple[str, ...], plot: Path | None, out: Path | None, as_json: bool, **options: Any
) -> None:
    """Our attention against timm's, unfold and plain attention: every goal, met or missed.

    With --out, each group is written when it is done, into the file that is there already: a group
    can be measured again alone.
    """
    from ..errors import ConfigError

    attention = benchmarks("attention")
    unknown = [name for name in groups if name not in attention.GROUPS]
    if unknown:
        names = ", ".join(attention.GROUPS)
        raise ConfigError(f"there is no group {unknown[0]!r}; groups are {names}")
    settings = attention.Settings(**options, say=_say)
    found: dict[str, Any] = {}
    for name in groups or tuple(attention.GROUPS):
        _say(f"{name}:")
        found[name] = _measured(attention.measure_group(name, settings))
        kept = _read_groups(out)
        _write(out, "attention", {"groups": {**kept, name: found[name]}})
    if plot is not None:
        benchmarks("plots").plot_curves({**_read_groups(out), **found}, plot)
    if as_json:
        click.echo(to_json({"groups": found}, indent=2))
        return
    show_rows([row for group in found.values() for row in group["rows"]])


def _read_groups(out: Path | None) -> dict[str, Any]:
    path = out / "bench-attention.json" if out is not None else None
    if path is None or not path.is_file():
        return {}
    return _GROUPS.read(path)["groups"]


def show_rows(rows: list[dict[str, Any]]) -> None:
    """Print goals with values, intervals and marks."""
    tables = benchmarks("tables")
    lines = [tables.cells(row) for row in rows]
    click.echo(table(tables.HEADER, lines, right=(3, 4)))
    missed = sum(row["met"] is False for row in rows)
    click.echo(
        f"{sum(row['met'] is True for row in rows)} of {len(rows)} goals met, {missed} missed"
    )


@bench_command.command("export")
@_threads
@_rounds(100)
@_out
@_json
def export_command(threads: int, rounds: int, out: Path | None, as_json: bool) -> None:
    """Our ONNX export of convit_tiny beside timm's own."""
    settings = benchmarks("attention").Settings(threads=threads, rounds=rounds, say=_say)
    found = benchmarks("export_comparison").compare_exports(settings)
    content = _measured(found)
    _write(out, "export", content)
    if as_json:
        click.echo(to_json(content, indent=2))
        return
    tables = benchmarks("tables")
    click.echo(table(("", *found["exports"]), tables.export_cells(found)))


@bench_command.command("start")
@_rounds(25)
@_out
@_json
def start_command(rounds: int, out: Path | None, as_json: bool) -> None:
    """Start-up of the command as a whole process, against the bare interpreter."""
    settings = benchmarks("attention").Settings(rounds=rounds, say=_say)
    found = benchmarks("start").measure_start(settings)
    content = _measured(found)
    _write(out, "start", content)
    if as_json:
        click.echo(to_json(content, indent=2))
        return
    rows = [
        (n, f"{t['median_ms']:.0f}", f"{t['min_ms']:.0f}") for n, t in found["processes"].items()
    ]
    click.echo(table(("process", "median ms", "min ms"), rows, right=(1, 2)))
    show_rows(found["rows"])
