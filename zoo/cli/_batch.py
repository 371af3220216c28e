"""What verbs share that write a row for every image of a source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..files.json_text import to_json
from ._options import say

if TYPE_CHECKING:
    from ..evaluation.batch.items import Source
    from ..evaluation.batch.job import BatchResult
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
    predictor: Predictor, source: Source, out: str, quiet: bool, **options: Any
) -> BatchResult:
    """`write_rows` with a progress line and the source's remarks."""
    from ..evaluation.batch.job import write_rows

    say(*source.remarks)
    with rows_progress(source.count, "images", quiet) as advance:
        found = write_rows(predictor, source, out, on_rows=advance, **options)
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
