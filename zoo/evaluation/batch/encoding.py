"""Rows as parquet, csv or jsonl."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigError, MissingDependencyError
from ...files.json_text import to_json

SUFFIXES = (".parquet", ".csv", ".jsonl")


@dataclass(frozen=True)
class Schema:
    """What a row holds.

    Args:
        columns: their names.
        arrow: their types, given a row: a function, since pyarrow is loaded only for parquet.
        flat: a row as cells of a table, for csv; `header` are their names.
    """

    columns: tuple[str, ...]
    arrow: Callable[[Any, Sequence[Mapping[str, Any]]], Any]
    header: tuple[str, ...]
    flat: Callable[[Mapping[str, Any]], list[object]]


def predictions(topk: int) -> Schema:
    """path, label, probability, topk: list of {label, probability}, error."""

    def arrow(pa: Any, _: Sequence[Mapping[str, Any]]) -> Any:
        answer = pa.struct([("label", pa.string()), ("probability", pa.float64())])
        fields = [("path", pa.string()), ("label", pa.string()), ("probability", pa.float64())]
        return pa.schema([*fields, ("topk", pa.list_(answer)), ("error", pa.string())])

    def flat(row: Mapping[str, Any]) -> list[object]:
        cells = [cell for a in row["topk"] or () for cell in (a["label"], a["probability"])]
        return [row["path"], *cells, *[""] * (2 * topk - len(cells)), row["error"]]

    named = [name for k in range(1, topk + 1) for name in (f"label_{k}", f"probability_{k}")]
    header = ("path", "label", "probability", *named[2:], "error")
    return Schema(("path", "label", "probability", "topk", "error"), arrow, header, flat)


def embeddings(width: int) -> Schema:
    """path, features: `width` numbers, error."""

    def arrow(pa: Any, _: Sequence[Mapping[str, Any]]) -> Any:
        features = pa.list_(pa.float32(), width)
        return pa.schema([("path", pa.string()), ("features", features), ("error", pa.string())])

    def flat(row: Mapping[str, Any]) -> list[object]:
        return [row["path"], *(row["features"] or [""] * width), row["error"]]

    header = ("path", *(f"feature_{i}" for i in range(width)), "error")
    return Schema(("path", "features", "error"), arrow, header, flat)


def format_of(out: str | os.PathLike[str]) -> str:
    """.parquet, .csv or .jsonl. Raises: ConfigError for another suffix; MissingDependencyError for
    parquet without pyarrow.
    """
    suffix = Path(out).suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(
            f"{os.fspath(out)!r} must end with {', '.join(SUFFIXES)}: the format of the rows",
            code="out",
        )
    if suffix == ".parquet":
        _pyarrow()
    return suffix


def encode(kind: str, rows: Sequence[Mapping[str, Any]], schema: Schema) -> bytes:
    """The bytes of a file of rows. Args: kind: one of `SUFFIXES`."""
    return _ENCODERS[kind](rows, schema)


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError(
            "parquet files need pyarrow: pip install 'convattn-zoo[batch]', or write .csv or .jsonl"
        ) from None
    return pa


def _as_parquet(rows: Sequence[Mapping[str, Any]], schema: Schema) -> bytes:
    pa = _pyarrow()
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema.arrow(pa, rows))
    out = io.BytesIO()
    pa.parquet.write_table(table, out)
    return out.getvalue()


def _as_csv(rows: Sequence[Mapping[str, Any]], schema: Schema) -> bytes:
    lines = [schema.header, *(schema.flat(row) for row in rows)]
    return "".join(map(_csv_line, lines)).encode()


def _csv_line(cells: Iterable[object]) -> str:
    """Cells that hold a line feed or a carriage return are quoted: the writer looks for those of
    its own line ends only.
    """
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue().removesuffix("\r\n") + "\n"


def _as_jsonl(rows: Sequence[Mapping[str, Any]], schema: Schema) -> bytes:
    lines = (to_json({k: row[k] for k in schema.columns}, ensure_ascii=False) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode()


_ENCODERS = {".parquet": _as_parquet, ".csv": _as_csv, ".jsonl": _as_jsonl}
