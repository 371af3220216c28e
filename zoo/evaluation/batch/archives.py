"""Images in tar archives, as webdataset writes them. No torch."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from ...data.image_listing import is_visible
from ...data.image_reading import image_suffixes
from ...errors import DatasetError, ImageError, ZooError
from ...files.json_text import printable
from .items import Item, as_label
from .stores import is_remote, open_stream, shown, size_of

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_MEMBER_BYTES = 1 << 30
_MAX_LABEL_BYTES = 1 << 12


@dataclass(frozen=True)
class Tar:
    """The images in a tar archive, in its order.

    Args:
        count: if somebody counted them (`count_images`).
    """

    file: str
    remarks: tuple[str, ...] = ()
    count: int | None = None

    @property
    def identity(self) -> dict[str, Any]:
        size = size_of(self.file) if is_remote(self.file) else os.stat(self.file).st_size
        return {"kind": "tar", "bytes": size}

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        images = (pair for pair in self.members() if _is_image(pair[1]))
        for archive, member in islice(images, start, stop):
            yield Item(printable(member.name), data=self._read(archive, member))

    def labelled(self) -> Iterator[Item]:
        """The images with their labels: the text of the member of the same name with ``.cls``,
        before or after the image.
        """
        image, label, last = None, None, ""
        for archive, member in self.members():
            folder, _, name = member.name.rpartition("/")
            key = f"{folder}/{name.partition('.')[0]}"
            if key != last:
                if image is not None:
                    yield self._with_label(image, label)
                image, label, last = None, None, key
            if _is_image(member):
                if image is not None:
                    raise DatasetError(
                        f"{image.path[-60:]!r} and {member.name[-60:]!r} in {shown(self.file)!r} "
                        "would share one label: it belongs to the name up to its first dot. Pack "
                        "them under names of their own",
                        code="labels",
                    )
                image = Item(printable(member.name), data=self._read(archive, member))
            elif member.name.endswith(".cls") and member.size <= _MAX_LABEL_BYTES:
                label = self._read(archive, member).decode(errors="replace").strip()
        if image is not None:
            yield self._with_label(image, label)

    def _with_label(self, image: Item, label: str | None) -> Item:
        if not label:
            raise DatasetError(
                f"{image.path[-100:]!r} in {shown(self.file)!r} has no label: expected a .cls of "
                "the same name beside it",
                code="labels",
            )
        return Item(image.path, data=image.data, label=as_label(label))

    def members(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        """Its files. What nobody reads is passed over. Raises: DatasetError; as `open_stream`."""
        name = ""
        with _damage(self.file, name), closing(self._opened()) as archive:
            members = iter(archive)
            while True:
                with _damage(self.file, name):
                    member = next(members, None)
                if member is None:
                    return
                archive.members = []  # type: ignore[attr-defined]  # else it remembers all
                name = member.name
                if member.isfile():
                    yield archive, member

    def _opened(self) -> tarfile.TarFile:
        if is_remote(self.file):
            return tarfile.open(fileobj=open_stream(self.file), mode="r|*", tarinfo=_Header)
        return tarfile.open(self.file, "r:*", tarinfo=_Header)

    def _read(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
        with _damage(self.file, member.name):
            handle = archive.extractfile(member) if member.size <= MAX_MEMBER_BYTES else None
            return b"" if handle is None else handle.read()


class _Header(tarfile.TarInfo):
    """A header; one that is cut off or none is an error, where tarfile takes it for the end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except (tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from None


def open_tar(place: str) -> Tar:
    """The images of an archive. Raises: as `open_source`."""
    source = Tar(place)
    if next(source.items(stop=1), None) is None:
        raise ImageError(f"no images in {shown(place)!r}", code="no_images")
    return source


def count_images(source: Tar) -> int:
    """How many images an archive holds. Raises: DatasetError if it is damaged."""
    return sum(1 for _, member in source.members() if _is_image(member))


def _is_image(member: tarfile.TarInfo) -> bool:
    name = member.name.rpartition("/")[2]
    return os.path.splitext(name)[1].lower() in image_suffixes() and is_visible(name)


@contextmanager
def _damage(place: str, after: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        if isinstance(error, ZooError):
            raise
        where = f"damaged near {after[-60:]!a}" if after else "damaged"
        raise DatasetError(
            f"{shown(place)!r} is no tar archive, or {where} ({ascii(str(error))[1:80]})",
            code="damaged",
        ) from None
