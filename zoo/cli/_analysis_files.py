"""The files that every verb of `analyze` writes: figure, numbers and table."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..files.json_text import to_json

if TYPE_CHECKING:
    from ..analysis._results import Result
    from ..data.dataset import ImageDataset
    from .analyze import Request


def finish(
    request: Request,
    verb: str,
    results: Sequence[Result],
    plot: Callable[[Sequence[Any], Path], None],
    images: ImageDataset | None = None,
    used: int | None = None,
    **facts: Any,
) -> None:
    """Write figure, numbers and table into --out, and say so.

    Args: images: that were looked at; used: how many of them, if not all; facts: for the JSON.
    """
    from ..files.local import make_directory, write_text
    from ..files.provenance import provenance

    out = make_directory(request.out)
    rows = [row for result in results for row in result.rows()]
    about: dict[str, Any] = {}
    if images is not None:
        about = {"data": images.name, "images": len(images) if used is None else used}
        about |= {"skipped": list(images.skipped)} if images.skipped else {}
    content = {
        "analysis": verb,
        **about,
        **facts,
        "results": [result.to_dict() for result in results],
        "rows": [{key: _cell(value) for key, value in row.items()} for row in rows],
        "seconds": round(time.perf_counter() - request.started, 1),
        **provenance(request.seed),
    }
    for suffix in ("png", "svg"):
        plot(results, out / f"{verb}.{suffix}")
    write_text(out / f"{verb}.json", to_json(content, indent=1) + "\n")
    write_text(out / f"{verb}.csv", to_csv(rows))
    if request.as_json:
        click.echo(to_json(content, indent=1))
        return
    _show(rows, verb)
    click.echo(f"wrote {verb}.png, .svg, .json and .csv to {out} in {content['seconds']:.0f} s")


def _show(rows: Sequence[dict[str, Any]], verb: str) -> None:
    from ._console import table

    header = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_text(row.get(key)) for key in header] for row in rows]
    numeric = [i for i, key in enumerate(header) if _is_numeric(rows, key)]
    click.echo(table(header, cells[:60], right=numeric))
    if len(cells) > 60:
        click.echo(f"... and {len(cells) - 60} more in {verb}.csv")


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """All rows under the union of their keys."""
    buffer = io.StringIO()
    header = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(buffer, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: "" if value is None else _cell(value) for key, value in row.items()} for row in rows
    )
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    from ..analysis._results import rounded

    return rounded(value) if isinstance(value, float) else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_numeric(rows: Sequence[dict[str, Any]], key: str) -> bool:
    values = [row.get(key) for row in rows if row.get(key) is not None]
    return bool(values) and all(isinstance(value, int | float) for value in values)
