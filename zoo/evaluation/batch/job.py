"""One pass over a source into files of rows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError
from ...files.provenance import command, versions
from .encoding import Schema, embeddings, predictions
from .items import Source
from .parts import open_parts
from .stream import PART_ROWS, Answer, answers

if TYPE_CHECKING:
    from ..predictor import Predictor

FORMAT_VERSION = 1


@dataclass(frozen=True)
class BatchResult:
    """What a pass wrote.

    Args:
        path: the folder of rows.
        rows: in it.
        unreadable: of these, rows with an error instead of an answer.
        kept: rows that an earlier run had written.
        seconds: of this run.
        notes: what was found of the earlier run.
    """

    path: str
    rows: int
    unreadable: int
    kept: int
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def images_per_second(self) -> float:
        """Rows of this run by its seconds."""
        return (self.rows - self.kept) / self.seconds if self.seconds else 0.0


def write_rows(
    predictor: Predictor,
    source: Source,
    out: str | os.PathLike[str],
    *,
    reference: str = "",
    topk: int | None = 5,
    batch_size: int = 32,
    workers: int = 0,
    on_unreadable: str = "stop",
    resume: bool = False,
    overwrite: bool = False,
    on_rows: Callable[[int], None] = lambda count: None,
) -> BatchResult:
    """Write what a model says of every image into OUT.parquet, OUT.csv or OUT.jsonl, a folder of
    parts; `_provenance.json` in it says which bytes of which model gave them, and where they ran.

    Args:
        reference: of the model, as the user named it.
        topk: classes of a row; None writes the model's output itself, its features.
        batch_size, workers, on_unreadable: see `answers`.
        resume, overwrite: see `open_parts`.
        on_rows: called with the number of rows that are new.
    Raises: as `answers` and `open_parts`; ConfigError for dynamic int8 in batches ("neighbours"):
        its answer for an image depends on the other images of the batch.
    """
    if topk is not None and topk < 1:
        raise ConfigError(f"topk must be at least 1; got {topk}")
    check_neighbours(predictor, batch_size)
    about = describe_job(predictor, source, reference, topk, batch_size, on_unreadable)
    started = time.perf_counter()
    parts = open_parts(out, about, resume=resume, overwrite=overwrite)
    rows = kept = sum(part["rows"] for part in parts.kept.values())
    unreadable = sum(part["unreadable"] for part in parts.kept.values())
    on_rows(kept)
    for first, after in parts.missing:
        found = answers(
            predictor.outputs,
            predictor.input,
            source,
            batch_size=batch_size,
            workers=workers,
            on_unreadable=on_unreadable,
            start=first * PART_ROWS,
            stop=None if after is None else after * PART_ROWS,
        )
        for number, content in enumerate(_parts_of(predictor, found, topk, on_rows), first):
            part = parts.write(number, content, schema_of(content, topk))
            rows += part["rows"]
            unreadable += part["unreadable"]
    seconds = time.perf_counter() - started
    result = BatchResult(os.fspath(out), rows, unreadable, kept, seconds, parts.notes)
    facts = {"rows": rows, "unreadable": unreadable, "seconds": round(seconds, 3)}
    parts.finish(about, facts)
    return result


def check_neighbours(predictor: Predictor, batch_size: int) -> None:
    """Raises: ConfigError for dynamic int8 in batches."""
    if predictor.origin.get("dynamic_int8") and batch_size > 1:
        raise ConfigError(
            f"{predictor.name[:80]} is dynamic int8: its answer for an image depends on the other "
            "images of the batch. Pass --batch-size 1, or take the static int8 or a float file",
            code="neighbours",
        )


def describe_job(
    predictor: Predictor,
    source: Source,
    reference: str,
    topk: int | None,
    batch_size: int,
    on_unreadable: str,
) -> dict[str, Any]:
    """What makes the rows, as _provenance.json says it."""
    return {
        "format_version": FORMAT_VERSION,
        "model": predictor.name,
        "reference": reference,
        "weights_sha256": predictor.weights_sha256,
        "input": predictor.input.to_dict(),
        **({"runs_on": dict(predictor.origin)} if predictor.origin else {}),
        "source": source.identity,
        "topk": topk,
        "batch_size": batch_size,
        "on_unreadable": on_unreadable,
        "versions": versions(),
        "command": command(),
    }


def row_of(predictor: Predictor, answer: Answer, topk: int | None) -> dict[str, Any]:
    """An answer as the row of a file."""
    error = answer.error or None
    if topk is None:
        features = None if answer.values is None else answer.values.ravel().tolist()
        return {"path": answer.path, "features": features, "error": error}
    if answer.values is None:
        return {"path": answer.path, "label": None, "probability": None, "topk": None,
                "error": error}  # fmt: skip
    found = predictor.top(answer.values, topk)
    pairs = zip(found.labels, found.probabilities, strict=True)
    top = [{"label": label, "probability": probability} for label, probability in pairs]
    return {"path": answer.path, **top[0], "topk": top, "error": error}


def schema_of(rows: list[dict[str, Any]], topk: int | None) -> Schema:
    """The schema of rows."""
    if topk is not None:
        return predictions(topk)
    return embeddings(next((len(row["features"]) for row in rows if row["features"]), 1))


def _parts_of(
    predictor: Predictor,
    found: Iterator[Answer],
    topk: int | None,
    on_rows: Callable[[int], None],
) -> Iterator[list[dict[str, Any]]]:
    while True:
        rows = []
        for answer in islice(found, PART_ROWS):
            rows.append(row_of(predictor, answer, topk))
            on_rows(1)
        if not rows:
            return
        yield rows
        if len(rows) < PART_ROWS:
            return
