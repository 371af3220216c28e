"""One pass over a source into files of rows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ...errors import ConfigError
from ...files.provenance import command, versions
from ..checks import check_count
from ..predictor import Predictor
from .encoding import format_of
from .items import Source
from .parts import check_place, open_parts
from .rows import ModelFacts, PartFile, RowOptions, part_files

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
        notes: what was found of the earlier run, and what the user may not expect of this one.
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


class Run(Protocol):
    """A model that is open in one process or in many."""

    @property
    def facts(self) -> ModelFacts:
        """What it is and where it runs."""

    def parts(
        self, missing: Iterable[tuple[int, int | None]], on_rows: Callable[[int], None]
    ) -> Iterator[PartFile]:
        """Parts of these ranges, in any order. Args: missing: see `Parts.missing`."""

    @property
    def report(self) -> dict[str, Any]:
        """JSON values about who computed, for `_provenance.json`."""


class Engine(Protocol):
    """Who computes rows, instead of this process."""

    def opened(self, source: Source, options: RowOptions) -> AbstractContextManager[Run]:
        """A run over a source; what was started for it is stopped at the end."""


def write_rows(
    model: Predictor | Engine,
    source: Source,
    out: str | os.PathLike[str],
    *,
    reference: str = "",
    resume: bool = False,
    overwrite: bool = False,
    on_rows: Callable[[int], None] = lambda count: None,
    **options: Any,
) -> BatchResult:
    """Write what a model says of every image into OUT.parquet, OUT.csv or OUT.jsonl, a folder of
    parts; `_provenance.json` in it says which bytes of which model gave them, and where they ran.

    Args:
        model: a predictor, or an engine that opens one in many processes: the same rows, to the
            bit.
        reference: of the model, as the user named it.
        resume, overwrite: see `open_parts`.
        on_rows: called with the number of rows that are new.
        options: of `RowOptions`, but for the kind.
    Raises: as `answers` and `open_parts`; ConfigError for dynamic int8 in batches ("neighbours"):
        its answer for an image depends on the other images of the batch.
    """
    how = RowOptions(format_of(out), **options)
    if how.topk is not None:
        check_count("topk", how.topk)
    check_place(out, resume=resume, overwrite=overwrite)
    engine = _OneProcess(model) if isinstance(model, Predictor) else model
    with engine.opened(source, how) as run:
        check_neighbours(run.facts, how.batch_size)
        about = describe_job(run.facts, source, reference, how)
        started = time.perf_counter()
        parts = open_parts(out, about, resume=resume, overwrite=overwrite)
        written = [part for _, part in sorted(parts.kept.items())]
        kept = sum(part["rows"] for part in written)
        on_rows(kept)
        notes = list(parts.notes)
        for part in run.parts(parts.missing, on_rows):
            written.append(parts.write(part))
            if part.repeated:
                notes.append(f"path {ascii(part.repeated)[:80]} stands in more than one row")
        rows = sum(part["rows"] for part in written)
        unreadable = sum(part["unreadable"] for part in written)
        seconds = time.perf_counter() - started
        facts = {"rows": rows, "unreadable": unreadable, "seconds": round(seconds, 3)}
        parts.finish(about, {**facts, **run.report})
    return BatchResult(os.fspath(out), rows, unreadable, kept, seconds, tuple(notes[:9]))


def check_neighbours(model: ModelFacts, batch_size: int) -> None:
    """Raises: ConfigError for dynamic int8 in batches."""
    if model.origin.get("dynamic_int8") and batch_size > 1:
        raise ConfigError(
            f"{model.name[:80]} is dynamic int8: its answer for an image depends on the other "
            "images of the batch. Pass --batch-size 1, or take the static int8 or a float file",
            code="neighbours",
        )


def describe_job(
    model: ModelFacts, source: Source, reference: str, options: RowOptions
) -> dict[str, Any]:
    """What makes the rows, as _provenance.json says it."""
    return {
        "format_version": FORMAT_VERSION,
        "model": model.name,
        "reference": reference,
        "weights_sha256": model.weights_sha256,
        "input": model.input.to_dict(),
        **({"runs_on": dict(model.origin)} if model.origin else {}),
        "source": source.identity,
        "topk": options.topk,
        "batch_size": options.batch_size,
        "on_unreadable": options.on_unreadable,
        "versions": versions(),
        "command": command(),
    }


@dataclass(frozen=True)
class _OneProcess:
    """A predictor of this process, as an engine."""

    predictor: Predictor

    @contextmanager
    def opened(self, source: Source, options: RowOptions) -> Iterator[Run]:
        yield _LocalRun(self.predictor, source, options)


@dataclass(frozen=True)
class _LocalRun:
    facts: Predictor
    source: Source
    options: RowOptions

    @property
    def report(self) -> dict[str, Any]:
        return {}

    def parts(
        self, missing: Iterable[tuple[int, int | None]], on_rows: Callable[[int], None]
    ) -> Iterator[PartFile]:
        for first, after in missing:
            yield from part_files(
                self.facts, self.source, first, after, self.options, on_rows=on_rows
            )
