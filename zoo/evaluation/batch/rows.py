"""Answers as files of rows, a part of 10,000 each. What one process and each actor of an engine
does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...catalog.weights_records import InputSpec
from .encoding import Schema, embeddings, encode, predictions
from .items import Source
from .stream import PART_ROWS, Answer, Decoder, answers

if TYPE_CHECKING:
    from ..predictor import Predictor


@dataclass(frozen=True)
class RowOptions:
    """What stands in rows, and how they are computed.

    Args:
        kind: of their files, one of `encoding.SUFFIXES`.
        topk: classes of a row; None writes the model's output itself, its features.
        batch_size, workers, on_unreadable: see `answers`.
    """

    kind: str
    topk: int | None = 5
    batch_size: int = 32
    workers: int = 0
    on_unreadable: str = "stop"


@dataclass(frozen=True)
class PartFile:
    """A part that is ready to be written.

    Args:
        number: of the part, from 0.
        data: the bytes of its file.
        rows: in it.
        unreadable: of these, rows with an error.
        repeated: a path that more than one of its rows has; "" if there is none.
    """

    number: int
    data: bytes
    rows: int
    unreadable: int
    repeated: str = ""


class ModelFacts(Protocol):
    """What `_provenance.json` says of a model; a `Predictor` has it."""

    @property
    def name(self) -> str: ...
    @property
    def input(self) -> InputSpec: ...
    @property
    def weights_sha256(self) -> str: ...
    @property
    def origin(self) -> Mapping[str, Any]: ...


def part_files(
    predictor: Predictor,
    source: Source,
    first: int,
    after: int | None,
    options: RowOptions,
    *,
    decoder: Decoder | None = None,
    on_rows: Callable[[int], None] = lambda count: None,
) -> Iterator[PartFile]:
    """The parts from number `first` on, up to number `after` or the end of the source.

    Args:
        on_rows: called with the number of rows that are new.
    Raises: as `answers`.
    """
    found = answers(
        predictor.outputs,
        predictor.input,
        source,
        batch_size=options.batch_size,
        workers=options.workers,
        on_unreadable=options.on_unreadable,
        start=first * PART_ROWS,
        stop=None if after is None else after * PART_ROWS,
        decoder=decoder,
    )
    number = first
    while True:
        rows = []
        for answer in islice(found, PART_ROWS):
            rows.append(row_of(predictor, answer, options.topk))
            on_rows(1)
        if rows:
            yield _part_file(predictor, number, rows, options)
        if len(rows) < PART_ROWS:
            return
        number += 1


def _part_file(
    predictor: Predictor, number: int, rows: list[dict[str, Any]], options: RowOptions
) -> PartFile:
    data = encode(options.kind, rows, _schema_of(predictor, rows, options.topk))
    times = Counter(row["path"] for row in rows)
    repeated = next((path for path, count in times.items() if count > 1), "")
    unreadable = sum(1 for row in rows if row["error"])
    return PartFile(number, data, len(rows), unreadable, repeated)


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


def _schema_of(predictor: Predictor, rows: list[dict[str, Any]], topk: int | None) -> Schema:
    if topk is not None:
        return predictions(topk)
    width = next((len(row["features"]) for row in rows if row["features"]), 0)
    return embeddings(width or _width_of(predictor))


def _width_of(predictor: Predictor) -> int:
    """Of an answer, from a grey image: a part without a readable one has the others' columns."""
    spec = predictor.input
    return int(predictor.forward(np.zeros((1, spec.in_chans, *spec.size), np.float32)).size)
