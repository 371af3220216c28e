"""Images in rows of a parquet file. Needs pyarrow (extra `batch`). No torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...catalog.checked_json import JsonError, conform, parse_json
from ...errors import DatasetError, ImageError, MissingDependencyError, NetworkError, ZooError
from .items import Item
from .stores import is_remote, open_place, shown, size_of

_ROWS = 64  # held at once


@dataclass(frozen=True)
class Parquet:
    """Rows of a parquet file, as Hugging Face's data sets write them: a column of structs with
    ``bytes`` and ``path``, or a column of bytes.

    Args:
        column: that holds the images.
        named: the column of their paths; "" if each struct has its own.
    """

    file: str
    column: str
    named: str
    is_struct: bool
    count: int
    remarks: tuple[str, ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        size = size_of(self.file) if is_remote(self.file) else os.stat(self.file).st_size
        return {"kind": "parquet", "count": self.count, "bytes": size, "column": self.column}

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        for number, row in self._rows(start, stop, []):
            yield self._item(row, number)

    def labelled(self, column: str) -> Iterator[Item]:
        """The images with their labels. Raises: DatasetError (code "column")."""
        with _opened_parquet(self.file) as table:
            schema = table.schema_arrow
        if column not in schema.names or not _is_label(schema.field(column).type):
            there = ", ".join(f"{name} ({schema.field(name).type})"[:40] for name in schema.names)
            raise DatasetError(
                f"{shown(self.file)!r} has no column {column!r} with numbers or names; it has "
                f"{there[:120]}. Name one with --label-column",
                code="column",
            )
        names = _class_names(schema.metadata or {}, column)
        for number, row in self._rows(0, None, [column]):
            label = row[column]
            named = isinstance(label, int) and 0 <= label < len(names)
            yield replace(self._item(row, number), label=names[label] if named else label)

    def _rows(
        self, start: int, stop: int | None, more: list[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        end = self.count if stop is None else min(stop, self.count)
        with _opened_parquet(self.file) as table:
            groups: list[int] = []
            first = 0
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                if not groups and first + rows <= start:
                    first += rows
                else:
                    groups.append(group)
            if start >= end:
                return
            columns = [self.column, *([self.named] if self.named else []), *more]
            number = first
            for batch in _damage(self.file, table.iter_batches(_ROWS, groups, columns)):
                for row in batch.to_pylist():
                    if start <= number < end:
                        yield number, row
                    number += 1
                if number >= end:
                    return

    def _item(self, row: dict[str, Any], number: int) -> Item:
        value = row[self.column]
        path = row.get(self.named) if self.named else None
        if self.is_struct:
            path = path or (value or {}).get("path")
            value = (value or {}).get("bytes")
        if not (isinstance(path, str) and path):
            path = f"{os.path.basename(shown(self.file))}#{number}"
        return Item(path, data=value or b"")


def open_parquet(path: str, column: str) -> Parquet:
    """The images of a parquet file. Raises: as `open_source`."""
    with _opened_parquet(path) as table:
        schema, count = table.schema_arrow, table.metadata.num_rows
    kinds = {name: _holds(schema.field(name).type) for name in schema.names}
    wanted = [column] if column else ["image", "bytes", "img", "images"]
    found = next((name for name in wanted if kinds.get(name)), "")
    if not found:
        there = ", ".join(f"{name} ({schema.field(name).type})"[:40] for name in schema.names[:5])
        raise DatasetError(
            f"{shown(path)!r} has no column {' or '.join(map(repr, wanted[:2]))} with image files "
            f"as bytes; it has {there or 'none'}. Name one with --column",
            code="column",
        )
    if not count:
        raise ImageError(f"{shown(path)!r} has no rows", code="no_images")
    named = "path" if "path" in schema.names and str(schema.field("path").type) == "string" else ""
    return Parquet(path, found, named, kinds[found] == "struct", count)


def _opened_parquet(path: str) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingDependencyError(
            "parquet files need pyarrow: pip install 'convattn-zoo[batch]'"
        ) from None
    try:
        return parquet.ParquetFile(open_place(path), pre_buffer=is_remote(path))
    except (pa.ArrowException, OSError) as error:
        raise _damaged_parquet(path, error) from None


def _damaged_parquet(path: str, error: Exception) -> ZooError:
    if isinstance(error, ZooError):
        return error
    if is_remote(path) and isinstance(error, OSError):
        return NetworkError(f"cannot read {shown(path)!r}: {ascii(str(error))[1:120]}")
    reason = ascii(" ".join(str(error).split()))[1:100]
    return DatasetError(
        f"{shown(path)!r} is no parquet file, or damaged ({reason})", code="damaged"
    )


def _damage(path: str, batches: Iterator[Any]) -> Iterator[Any]:
    import pyarrow as pa

    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise _damaged_parquet(path, error) from None
        if batch is None:
            return
        yield batch


def _is_label(kind: Any) -> bool:
    return str(kind).startswith(("int", "uint", "string", "large_string", "dictionary"))


def _class_names(metadata: Mapping[bytes, bytes], column: str) -> list[str]:
    """Names of class numbers, as Hugging Face's data sets state them; [] where they do not."""
    try:
        stated = parse_json(metadata.get(b"huggingface", b"{}").decode())
        found: list[str] = conform(list[str], stated["info"]["features"][column]["names"])
    except (ValueError, KeyError, TypeError, JsonError):
        return []
    return found


def _holds(kind: Any) -> str:
    """Whether a column's type is "struct" with bytes in it, "bytes", or "" for another."""
    text = str(kind)
    if text in ("binary", "large_binary"):
        return "bytes"
    inside = [kind.field(i) for i in range(kind.num_fields)] if text.startswith("struct<") else []
    bytes_in = any(f.name == "bytes" and str(f.type) in ("binary", "large_binary") for f in inside)
    return "struct" if bytes_in else ""
