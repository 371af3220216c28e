"""Images in rows of a parquet file. Needs pyarrow (extra `batch`). No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DatasetError, ImageError, MissingDependencyError
from .items import Item

_ROWS = 64  # held at once


@dataclass(frozen=True)
class Parquet:
    """Rows of a parquet file, as Hugging Face's data sets write them: a column of structs with
    ``bytes`` and ``path``, or a column of bytes.

    Args:
        column: that holds the images.
        named: the column of their paths; "" if each struct has its own.
    """

    file: Path
    column: str
    named: str
    is_struct: bool
    count: int
    remarks: tuple[str, ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        size = self.file.stat().st_size
        return {"kind": "parquet", "count": self.count, "bytes": size, "column": self.column}

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        end = self.count if stop is None else min(stop, self.count)
        with _opened_parquet(self.file) as table:
            groups, first = [], 0
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                if first + rows <= start:
                    first += rows
                else:
                    groups.append(group)
            if start >= end:
                return
            columns = [self.column, *([self.named] if self.named else [])]
            number = first
            for batch in _damage(self.file, table.iter_batches(_ROWS, groups, columns)):
                for row in batch.to_pylist():
                    if start <= number < end:
                        yield self._item(row, number)
                    number += 1
                if number >= end:
                    return

    def _item(self, row: dict[str, Any], number: int) -> Item:
        value = row[self.column]
        path = row.get(self.named) if self.named else None
        if self.is_struct:
            path = path or (value or {}).get("path")
            value = (value or {}).get("bytes")
        name = path if isinstance(path, str) and path else f"{self.file.name}#{number}"
        return Item(name, data=value or b"")


def open_parquet(path: Path, column: str) -> Parquet:
    """The images of a parquet file. Raises: as `open_source`."""
    with _opened_parquet(path) as table:
        schema, count = table.schema_arrow, table.metadata.num_rows
    kinds = {name: _holds(schema.field(name).type) for name in schema.names}
    wanted = [column] if column else ["image", "bytes", "img", "images"]
    found = next((name for name in wanted if kinds.get(name)), "")
    if not found:
        there = ", ".join(f"{name} ({schema.field(name).type})"[:40] for name in schema.names[:5])
        raise DatasetError(
            f"{str(path)!r} has no column {' or '.join(map(repr, wanted[:2]))} with image files as "
            f"bytes; it has {there or 'none'}. Name one with --column",
            code="column",
        )
    if not count:
        raise ImageError(f"{str(path)!r} has no rows", code="no_images")
    named = "path" if "path" in schema.names and str(schema.field("path").type) == "string" else ""
    return Parquet(path, found, named, kinds[found] == "struct", count)


def _opened_parquet(path: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingDependencyError(
            "parquet files need pyarrow: pip install 'convattn-zoo[batch]'"
        ) from None
    try:
        return parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged_parquet(path, error) from None


def _damaged_parquet(path: Path, error: Exception) -> DatasetError:
    reason = ascii(" ".join(str(error).split()))[1:100]
    return DatasetError(f"{str(path)!r} is no parquet file, or damaged ({reason})", code="damaged")


def _damage(path: Path, batches: Iterator[Any]) -> Iterator[Any]:
    import pyarrow as pa

    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise _damaged_parquet(path, error) from None
        if batch is None:
            return
        yield batch


def _holds(kind: Any) -> str:
    """Whether a column's type is "struct" with bytes in it, "bytes", or "" for another."""
    text = str(kind)
    if text in ("binary", "large_binary"):
        return "bytes"
    inside = [kind.field(i) for i in range(kind.num_fields)] if text.startswith("struct<") else []
    bytes_in = any(f.name == "bytes" and str(f.type) in ("binary", "large_binary") for f in inside)
    return "struct" if bytes_in else ""
