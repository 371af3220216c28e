"""One image of a source, and what every source can do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Args:
        path: what its row is called; always text that UTF-8 can hold.
        file: where it lies, a path or an address in a store; "" if `data` holds it.
        data: the bytes of the file.
        label: of its class, a number or a name, where the source was asked for labels.
    """

    path: str
    file: str = ""
    data: bytes = b""
    label: int | str | None = None


class Source(Protocol):
    """Images in an order of their own, the same at every pass."""

    @property
    def count(self) -> int | None:
        """How many there are; None where only a whole pass would tell."""

    @property
    def identity(self) -> dict[str, Any]:
        """JSON values that differ where the images or their order do."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the user may not expect, a line each."""

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        """The images from number `start` on, up to number `stop`."""


def as_label(text: str) -> int | str:
    """A label that is written out: a number, or a name, which "007" is."""
    return int(text) if text.isdecimal() and str(int(text)) == text else text
