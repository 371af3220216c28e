"""Where many images come from: folders, lists, parquet, tar. Read as they are needed, in an order
that is the same every time. No torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...data.image_listing import is_visible, list_folder, list_sources
from ...data.image_reading import image_suffixes
from ...errors import ConfigError, DatasetError, ImageError, NotFoundError
from ...files.json_text import printable
from . import archives
from .archives import open_tar
from .items import Item, Source
from .parquet_rows import open_parquet
from .stores import is_remote, list_place, read_place, shown

LISTS = (".txt", ".lst")
SHARDS = ("parquet", "tar")


@dataclass(frozen=True)
class Files:
    """Image files, each on its own.

    Args:
        names: what their rows are called.
        paths: where they lie.
        labels: of their classes, where a list says them.
    """

    kind: str
    names: Sequence[str]
    paths: Sequence[str]
    remarks: tuple[str, ...] = ()
    labels: Sequence[str] = ()

    @property
    def count(self) -> int:
        return len(self.paths)

    @property
    def identity(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(name.encode() + b"\n")
        return {"kind": self.kind, "count": self.count, "names_sha256": digest.hexdigest()}

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        for number in range(start, self.count if stop is None else min(stop, self.count)):
            yield Item(self.names[number], file=self.paths[number])


@dataclass(frozen=True)
class Shards:
    """Sources of one kind, one after the other: the files of a data set that has many."""

    sources: Sequence[Source]
    remarks: tuple[str, ...] = ()

    @property
    def count(self) -> int | None:
        counts = [source.count for source in self.sources]
        return None if None in counts else sum(filter(None, counts))

    @property
    def identity(self) -> dict[str, Any]:
        return {"kind": "shards", "sources": [source.identity for source in self.sources]}

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        first = 0  # number of the source's first image
        for source in self.sources:
            if stop is not None and first >= stop:
                return
            end = None if stop is None else stop - first
            if source.count is not None:
                if start < first + source.count:
                    yield from source.items(max(0, start - first), end)
                first += source.count
                continue
            number = first  # only passing its images tells how many there are
            for item in source.items(0, end):
                if number >= start:
                    yield item
                number += 1
            first = number


def open_source(
    places: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], column: str = ""
) -> Source:
    """The images of a place: a folder, a list of files (.txt, .lst: a path a line, relative to the
    list), parquet files or tar archives, a folder of either; or several image files and folders.
    Each may lie in an object store (s3://, gs://, hf://).

    Args:
        column: of parquet files; "" finds it.
    Raises: NotFoundError, ResourceError, NetworkError; ImageError (code "no_images"); DatasetError
        for a list, parquet file or archive that is none; ConfigError for places of several kinds;
        MissingDependencyError (parquet needs pyarrow).
    """
    given = [places] if isinstance(places, str | os.PathLike) else list(places)
    paths = [path for place in given for path in _opened_folder(os.fspath(place))]
    kinds = sorted({_kind(path) for path in paths}) or ["files"]
    if column and kinds != ["parquet"]:
        raise ConfigError("--column is for parquet files", code="column")
    if len(kinds) > 1 or (kinds == ["list"] and len(paths) > 1):
        raise ConfigError(
            f"one kind of source at a time, and one list; got {len(paths)} places: "
            f"{', '.join(kinds)}",
            code="sources",
        )
    if kinds == ["files"]:
        return _files(paths)
    if kinds == ["list"]:
        return _list(paths[0])
    _refuse_twice(map(os.path.realpath, paths))
    found = [open_tar(p) if kinds == ["tar"] else open_parquet(p, column) for p in paths]
    return found[0] if len(found) == 1 else Shards(found)


def is_source(place: str) -> bool:
    """Whether a place is a list, parquet, an archive, a folder of those, or in an object store, and
    not a folder of images or an image.
    """
    if is_remote(place):
        return True
    if not os.path.lexists(place):
        return False
    return _kind(place) in ("list", *SHARDS) or _opened_folder(place) != [place]


def _opened_folder(path: str) -> list[str]:
    """The parquet files or archives of a folder that has such and no images; else the path."""
    if is_remote(path):
        return _opened_store(path)
    try:
        inside = [os.path.join(path, name) for name in sorted(os.listdir(path)) if is_visible(name)]
    except OSError:  # a file, or a folder whose error `list_folder` explains
        return [path]
    shards = [place for place in inside if os.path.isfile(place) and _kind(place) in SHARDS]
    return shards if shards and not list_folder(path, may_be_empty=True).names else [path]


def _opened_store(place: str) -> list[str]:
    """The same of an object store, where a folder of images becomes its images."""
    inside = list_place(place)
    if inside is None:
        return [place]
    suffixes = image_suffixes()
    images = [p for p in inside if os.path.splitext(shown(p))[1].lower() in suffixes]
    found = images or [place for place in inside if _kind(place) in SHARDS]
    if not found:
        raise ImageError(
            f"no images in {shown(place)!r} or below it, and {len(inside)} other files",
            code="no_images",
        )
    return found


def _refuse_twice(paths: Iterable[str]) -> None:
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise ConfigError(f"{path[-150:]!r} is named twice; every file once", code="duplicate")
        seen.add(path)


def _kind(path: str) -> str:
    name = shown(path).lower()
    if os.path.isdir(path):
        return "files"
    if not (is_remote(path) or os.path.lexists(path)):
        raise NotFoundError(f"no such file: {path!r}; check the path")
    if name.endswith(".parquet"):
        return "parquet"
    if name.endswith(archives.SUFFIXES):
        return "tar"
    return "list" if name.endswith(LISTS) else "files"


def _files(paths: Sequence[str]) -> Files:
    if not paths:
        raise ImageError("no images; name files or a folder", code="no_images")
    found, remarks = list_sources([path for path in paths if not is_remote(path)])
    found += [path for path in paths if is_remote(path)]
    if len(paths) > 1:
        _refuse_twice(map(_spelled, found))
    kind = "folder" if len(paths) == 1 and os.path.isdir(paths[0]) else "files"
    return Files(kind, [printable(shown(path)) for path in found], found, tuple(remarks))


def _spelled(path: str) -> str:
    return path if is_remote(path) else os.path.abspath(path)


def _list(place: str) -> Files:
    try:
        lines = read_place(place, "list of images").decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{shown(place)!r} is no list of images: byte {error.start} is not UTF-8", code="list"
        ) from None
    seen: dict[str, int] = {}
    labels = []
    for number, line in enumerate(lines, 1):
        name, tab, label = line.strip().partition("\t")
        if name and seen.setdefault(name, number) != number:
            raise DatasetError(
                f"{shown(place)!r} names {name[:100]!r} in line {seen[name]} and in line {number}; "
                "every image once",
                code="duplicate",
            )
        if name:
            labels.append(label.strip() if tab else "")
    if not seen:
        raise ImageError(f"{shown(place)!r} names no images", code="no_images")
    paths = [name if is_remote(name) else _beside(place, name) for name in seen]
    return Files("list", [printable(shown(name)) for name in seen], paths, labels=labels)


def _beside(place: str, name: str) -> str:
    """A file that a list names."""
    path, question, query = place.partition("?") if is_remote(place) else (place, "", "")
    return os.path.join(os.path.dirname(path), name) + question + query
