"""The images of a folder: one definition for every verb. No torch.

All files below the folder whose suffix is that of an image format which Pillow decodes, sorted.
Hidden files and folders (``._a.jpg``, ``.thumbs/``) and what archives and network drives leave
behind are no images; folders that are symbolic links are not entered.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, ImageError, NotFoundError, ResourceError, ZooError
from .image_reading import UNREADABLE, image_suffixes, read_file

ON_UNREADABLE = ("stop", "skip")

_LEFT_BEHIND = frozenset({"__MACOSX", "@eaDir"})  # by macOS archives, by Synology drives


@dataclass(frozen=True)
class ImageListing:
    """What a folder holds.

    Args:
        folder: as it was given.
        names: of the images, relative to it, with "/" between, sorted.
        ignored: other visible files.
    """

    folder: str
    names: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def paths(self) -> list[str]:
        """The images with the folder in front."""
        return [os.path.join(self.folder, name) for name in self.names]

    @property
    def nested(self) -> tuple[str, ...]:
        """Folders inside that images were found in, sorted."""
        return tuple(sorted({name.rpartition("/")[0] for name in self.names} - {""}))

    def remark(self, nested: bool = True) -> str:
        """What the user may not expect, in one line; "" if there is nothing.

        Args: nested: name folders inside; where they are the classes they are expected.
        """
        parts = []
        if nested and self.nested:
            parts.append(f"images in {_some('folder', self.nested)} inside count")
        if self.ignored:
            parts.append(f"{_some('file', self.ignored)} left out, being no images")
        return f"{self.folder}: {'; '.join(parts)}" if parts else ""


def _some(what: str, names: Sequence[str]) -> str:
    shown = ", ".join(_printable(name[-40:]) for name in names[:3])
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''} ({shown}{more})"


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def list_folder(folder: str | os.PathLike[str], *, may_be_empty: bool = False) -> ImageListing:
    """The images of a folder.

    Raises: NotFoundError if there is no such folder, ResourceError for one that may not be read,
        ImageError (code "no_images") if no image is in it.
    """
    root = os.fspath(folder)
    if not os.path.isdir(root):
        raise NotFoundError(f"{root!r} is not a folder; check the path")
    suffixes = image_suffixes()
    names: list[str] = []
    ignored: list[str] = []
    for where, inside, files in os.walk(root, onerror=_refuse):
        inside[:] = [name for name in inside if is_visible(name)]
        for name in filter(is_visible, files):
            found = Path(where, name).relative_to(root).as_posix()
            wanted = os.path.splitext(name)[1].lower() in suffixes
            (names if wanted else ignored).append(found)
    if not names and not may_be_empty:
        raise ImageError(
            f"no images in {root!r} or below it, and {len(ignored)} other files; images end in "
            ".png, .jpg, .webp, .tif, .bmp, .gif and the like",
            code="no_images",
        )
    return ImageListing(root, tuple(sorted(names)), tuple(sorted(ignored)))


def list_sources(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Images from files and folders: a file stays as it is, a folder becomes its images.

    Returns: the paths in order, and remarks about folders (`ImageListing.remark`).
    Raises: as `list_folder`; NotFoundError for a path that does not exist.
    """
    found: list[str] = []
    remarks = []
    for path in paths:
        if os.path.isdir(path):
            listing = list_folder(path)
            found += listing.paths
            remarks.append(listing.remark())
        elif os.path.lexists(path):
            found.append(path)
        else:
            raise NotFoundError(f"no such file: {path!r}; check the path")
    return found, [remark for remark in remarks if remark]


def check_on_unreadable(value: str) -> None:
    """Raises: ConfigError unless it is "stop" or "skip"."""
    if value not in ON_UNREADABLE:
        raise ConfigError(f"on_unreadable must be 'stop' or 'skip'; got {value!r}")


def ending(error: ZooError) -> ZooError:
    """The error of an image at which the work ends, with the way around such images."""
    way = 'on_unreadable="skip" (--on-unreadable skip) goes on without it'
    return type(error)(f"{error}; {way}", code=error.code)


def without_unreadable(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """The images that can be decoded, and the others. Decodes all of them once.

    Raises: ImageError (code "no_images") if none can be.
    """

    def readable(path: str) -> bool:
        try:
            read_file(path)
        except UNREADABLE:
            return False
        return True

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        good = list(pool.map(readable, paths))
    refuse_none(sum(good), len(paths))
    kept = [path for path, fine in zip(paths, good, strict=True) if fine]
    return kept, [path for path, fine in zip(paths, good, strict=True) if not fine]


def refuse_none(readable: int, skipped: int) -> None:
    """Raises: ImageError (code "no_images") if all of some images were left out."""
    if skipped and not readable:
        raise ImageError(
            f"none of {skipped} images can be read; --on-unreadable stop shows why the first "
            "cannot",
            code="no_images",
        )


def skipped_remark(skipped: Sequence[str], why: str = "cannot be read") -> str:
    """One line for the screen about images that were left out; "" for none."""
    return f"{_some('image', skipped)} {why} and left out" if skipped else ""


def is_visible(name: str) -> bool:
    """Whether a file or folder of this name is looked at."""
    return not name.startswith(".") and name not in _LEFT_BEHIND


def _refuse(error: OSError) -> None:
    text = f"cannot read the folder {str(error.filename)!r}: {error.strerror}; check its rights"
    raise ResourceError(text, code="unreadable")
