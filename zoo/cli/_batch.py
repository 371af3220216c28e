"""What verbs share that write a row for every image of a source."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..files.json_text import to_json
from ._given import given_options
from ._options import say

if TYPE_CHECKING:
    from ..evaluation.batch.items import Source
    from ..evaluation.batch.job import BatchResult, Engine
    from ..evaluation.predictor import Predictor


def rows_options() -> Callable[[Any], Any]:
    """``--batch-size --workers --column --resume --overwrite``; the command gets them all."""
    options = (
        click.option(
            "--batch-size", default=32, show_default=True, type=click.IntRange(1),
            help="Images at once.",
        ),
        click.option("--workers", default=0, type=click.IntRange(0), help="Decode; 0: auto."),
        click.option("--column", default="", help="Of a parquet file, with the images."),
        click.option("--resume", is_flag=True, help="Go on where an earlier run stopped."),
        click.option("--overwrite", is_flag=True, help="Begin anew, over rows that are there."),
    )  # fmt: skip

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def labels_options() -> Callable[[Any], Any]:
    """``--column --label-column``: where a parquet file has images and labels."""

    def decorate(function: Any) -> Any:
        function = click.option(
            "--label-column", default="label", show_default=True, help="With labels, of parquet."
        )(function)
        return click.option("--column", default="", help="Of a parquet file, with the images.")(
            function
        )

    return decorate


def engine_options() -> Callable[[Any], Any]:
    """``--engine --actors --gpus-per-actor --address``; the command gets `cluster`: None for this
    process, else keywords of `RayEngine`.
    """
    options = (
        click.option(
            "--engine", default="process", show_default=True,
            type=click.Choice(["process", "ray"]), help="Who computes the rows of --out.",
        ),
        click.option("--actors", default=0, type=click.IntRange(0), help="Of ray; 0: auto."),
        click.option(
            "--gpus-per-actor", type=click.FloatRange(0),
            help="Of ray.  [default: 1 where the provider needs a GPU]",
        ),
        click.option("--address", default="", help="Of a Ray cluster, or auto.  [default: none]"),
    )  # fmt: skip

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def gathered(*args: Any, engine: str, **given: Any) -> Any:
            names = ("actors", "gpus_per_actor", "address")
            cluster = {name: given.pop(name) for name in names}
            idle = given_options(*names) if engine == "process" else []
            if idle:
                raise click.UsageError(f"{', '.join(idle)} would have no effect; add --engine ray")
            if engine == "ray" and given["out"] is None:
                raise click.UsageError("--engine ray needs --out")
            return function(*args, cluster=cluster if engine == "ray" else None, **given)

        for option in reversed(options):
            gathered = option(gathered)
        return gathered

    return decorate


def ray_engine(
    open_model: Callable[..., Predictor],
    reference: str,
    provider: str,
    settings: Mapping[str, Any],
    cluster: Mapping[str, Any],
    **given: Any,
) -> Engine:
    """An engine whose actors call `open_model`, with one thread each unless told otherwise.

    torch takes the threads of an actor's process, which Ray sets; other runtimes are told.
    """
    from ..catalog.references import kind_of
    from ..evaluation.batch.ray_engine import RayEngine

    threads = settings.get("threads") or 1
    if settings or provider != "cpu" or kind_of(reference) == "file":  # an exported file
        from export.runtime.opening import file_of

        of_torch = file_of(reference, settings.get("precision"))[0].suffix != ".onnx"
        settings = {**settings, "threads": 0 if of_torch else threads}
    gpus = cluster["gpus_per_actor"]
    if gpus is None:
        gpus = 1.0 if provider in ("cuda", "tensorrt") else 0.0
    opening = functools.partial(open_model, reference, provider, settings=settings, **given)
    return RayEngine(opening, threads=threads, **{**cluster, "gpus_per_actor": gpus})


def check_rows(out: object, resume: bool, overwrite: bool) -> None:
    """Raises: click.UsageError, ConfigError."""
    from ..evaluation.batch.encoding import format_of

    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    if out is None and (resume or overwrite):
        raise click.UsageError("--resume and --overwrite are for --out")
    if out is not None:
        format_of(str(out))


def write_source(
    model: Predictor | Engine, source: Source, out: str, quiet: bool, **options: Any
) -> BatchResult:
    """`write_rows` with a progress line and the source's remarks."""
    from ..evaluation.batch.job import write_rows

    say(*source.remarks)
    with rows_progress(source.count, "images", quiet) as advance:
        found = write_rows(model, source, out, on_rows=advance, **options)
    say(*found.notes)
    return found


def rows_text(found: BatchResult, as_json: bool) -> str:
    """What a run wrote: JSON, or a line."""
    from dataclasses import asdict

    if as_json:
        rate = {"images_per_second": round(found.images_per_second, 1)}
        return to_json({**asdict(found), **rate}, indent=2, ensure_ascii=False)
    bad = f", {found.unreadable} of them unreadable (column error)" if found.unreadable else ""
    new = f" ({found.rows - found.kept} new)" if found.kept else ""
    rate_text = f", {found.images_per_second:.0f} images/s" if found.rows > found.kept else ""
    return f"{found.path}: {found.rows} rows{new}{bad}{rate_text}"


@contextmanager
def rows_progress(total: int | None, what: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar with images per second and the time that is left; the time so far without a total."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn() if total else TimeElapsedColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    ) as bar:
        task = bar.add_task(what, total=total, rate="")

        def advance(count: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, advance=count, rate=f"{speed:.0f} images/s" if speed else "")

        yield advance
