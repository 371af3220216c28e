"""Where many images come from: folders, lists, parquet, tar. Read as they are needed, in an order
that is the same every time. No torch.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ...data.image_listing import is_visible, list_folder, list_sources
from ...data.image_reading import image_suffixes
from ...errors import ConfigError, DatasetError, ImageError, NotFoundError
from ...files.local import read_regular_file
from .items import Item, Source, printable
from .parquet_rows import open_parquet

LISTS, TARS = (".txt", ".lst"), (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
SHARDS = ("parquet", "tar")
MAX_LIST_BYTES = 1 << 30
MAX_MEMBER_BYTES = 1 << 30


@dataclass(frozen=True)
class Files:
    """Image files, each on its own.

    Args:
        names: what their rows are called.
        paths: where they lie.
    """

    kind: str
    names: Sequence[str]
    paths: Sequence[str]
    remarks: tuple[str, ...] = ()

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
class Tar:
    """The images in a tar archive, in its order, as webdataset writes them."""

    file: Path
    remarks: tuple[str, ...] = ()
    count: int | None = field(default=None, init=False)

    @property
    def identity(self) -> dict[str, Any]:
        return {"kind": "tar", "bytes": self.file.stat().st_size}

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        yield from islice(self._all(start), max(0, stop - start) if stop is not None else None)

    def _all(self, start: int) -> Iterator[Item]:
        number = 0
        try:
            with tarfile.open(self.file, "r|*") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # else it remembers all
                    if not _is_image(member):
                        continue
                    if number >= start:
                        yield _member(archive, member)
                    number += 1
        except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
            raise DatasetError(
                f"{str(self.file)!r} is no tar archive, or damaged after {number} images "
                f"({ascii(str(error))[1:80]})",
                code="damaged",
            ) from None


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

    Args:
        column: of parquet files; "" finds it.
    Raises: NotFoundError, ResourceError; ImageError (code "no_images"); DatasetError for a list,
        parquet file or archive that is none; ConfigError for places of several kinds;
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
        return _list(Path(paths[0]))
    _refuse_twice(paths)
    is_tar = kinds == ["tar"]
    found = [_tar(Path(path)) if is_tar else open_parquet(Path(path), column) for path in paths]
    return found[0] if len(found) == 1 else Shards(found)


def _opened_folder(path: str) -> list[str]:
    """The parquet files or archives of a folder that has such and no images; else the path."""
    try:
        inside = [os.path.join(path, name) for name in sorted(os.listdir(path)) if is_visible(name)]
    except OSError:  # a file, or a folder whose error `list_folder` explains
        return [path]
    shards = [place for place in inside if os.path.isfile(place) and _kind(place) in SHARDS]
    return shards if shards and not list_folder(path, may_be_empty=True).names else [path]


def _refuse_twice(paths: Sequence[str]) -> None:
    seen: set[str] = set()
    for path in map(os.path.realpath, paths):
        if path in seen:
            raise ConfigError(f"{path[-150:]!r} is named twice; every file once", code="duplicate")
        seen.add(path)


def _kind(path: str) -> str:
    name = path.lower()
    if os.path.isdir(path):
        return "files"
    if not os.path.lexists(path):
        raise NotFoundError(f"no such file: {path!r}; check the path")
    if name.endswith(".parquet"):
        return "parquet"
    if name.endswith(TARS):
        return "tar"
    return "list" if name.endswith(LISTS) else "files"


def _files(paths: Sequence[str]) -> Files:
    if not paths:
        raise ImageError("no images; name files or a folder", code="no_images")
    found, remarks = list_sources(paths)
    kind = "folder" if len(paths) == 1 and os.path.isdir(paths[0]) else "files"
    return Files(kind, [printable(path) for path in found], found, tuple(remarks))


def _list(path: Path) -> Files:
    try:
        lines = read_regular_file(path, "list of images", MAX_LIST_BYTES).decode().splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{str(path)!r} is no list of images: byte {error.start} is not UTF-8", code="list"
        ) from None
    names = [line.strip() for line in lines]
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if name and seen.setdefault(name, number) != number:
            raise DatasetError(
                f"{str(path)!r} names {name[:100]!r} in line {seen[name]} and in line {number}; "
                "every image once",
                code="duplicate",
            )
    if not seen:
        raise ImageError(f"{str(path)!r} names no images", code="no_images")
    kept = list(seen)
    return Files("list", [printable(n) for n in kept], [str(path.parent / name) for name in kept])


def _tar(path: Path) -> Tar:
    source = Tar(path)
    if next(source.items(stop=1), None) is None:
        raise ImageError(f"no images in {str(path)!r}", code="no_images")
    return source


def _is_image(member: tarfile.TarInfo) -> bool:
    parts = member.name.split("/")
    suffix = os.path.splitext(parts[-1])[1].lower()
    return member.isfile() and suffix in image_suffixes() and all(map(is_visible, parts[-1:]))


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Item:
    handle = archive.extractfile(member) if member.size <= MAX_MEMBER_BYTES else None
    return Item(printable(member.name), data=b"" if handle is None else handle.read())
