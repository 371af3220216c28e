"""A damaged cached file is set aside until a good one is in its place. Standard library only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .local import remove_any
from .strays import hidden_name, sweep


class Aside:
    """What was taken out of a cache: files under other names, and links."""

    def __init__(self) -> None:
        self._moved: list[tuple[Path, Path]] = []  # (place, name until then)
        self._links: list[tuple[Path, str]] = []

    def take(self, path: Path) -> None:
        """Take a file out of the cache: a snapshot's link, and the blob that it names.

        The client would not replace it by itself: in a cache without links it keeps the old file
        even where it is told to download it again.
        """
        for place in (path.resolve(), path):
            with contextlib.suppress(OSError):  # a file that stays is found bad again, and reported
                if place.is_symlink():
                    self._links.append((place, os.readlink(place)))
                    place.unlink()
                elif os.path.lexists(place):
                    sweep(place.parent)
                    hidden = place.parent / hidden_name(".incomplete")
                    place.rename(hidden)
                    self._moved.append((place, hidden))

    def put_back(self) -> None:
        """Undo it where nothing else has taken the place."""
        for place, hidden in self._moved:
            with contextlib.suppress(OSError):
                if not os.path.lexists(place):
                    hidden.rename(place)
        for link, target in self._links:
            with contextlib.suppress(OSError):
                link.symlink_to(target)

    def drop(self) -> None:
        """Delete what is still aside."""
        for _, hidden in self._moved:
            remove_any(hidden)


@contextlib.contextmanager
def set_aside() -> Iterator[Aside]:
    """What is taken is deleted in the end, unless it was put back."""
    aside = Aside()
    try:
        yield aside
    finally:
        aside.drop()
