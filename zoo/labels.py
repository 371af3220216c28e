"""Class names, one list per data set. Standard library only."""

from __future__ import annotations

import functools
from pathlib import Path

from .errors import ConfigError

_DIGITS = tuple(str(digit) for digit in range(10))


@functools.cache
def read_labels(name: str) -> tuple[str, ...]:
    """Class names in the order of the logits.

    Args:
        name: "digits", "cifar10", "cifar100" (the fine classes), "imagenet1k" (WordNet lemmas of
            the 1,000 ILSVRC 2012 synsets, in the sorted order of their synset identifiers; see
            THIRD_PARTY.md) or "" (no names).
    Raises: ConfigError for an unknown list.
    """
    if not name:
        return ()
    if name == "digits":
        return _DIGITS
    path = Path(__file__).parent / "catalog" / f"labels_{name}.txt"
    if not path.is_file():
        raise ConfigError(
            f"unknown label list {name!r}; expected 'digits', 'cifar10', 'cifar100' or 'imagenet1k'"
        )
    return tuple(path.read_text(encoding="utf-8").splitlines())


def list_name(labels: tuple[str, ...]) -> str:
    """The name under which `read_labels` gives exactly these class names, or ""."""
    folder = Path(__file__).parent / "catalog"
    names = [path.stem.removeprefix("labels_") for path in sorted(folder.glob("labels_*.txt"))]
    return next((name for name in ("digits", *names) if read_labels(name) == labels), "")


@functools.cache
def read_synsets() -> tuple[str, ...]:
    """The 1,000 WordNet identifiers of ILSVRC 2012, in the order of the labels "imagenet1k"."""
    path = Path(__file__).parent / "catalog" / "synsets_imagenet1k.txt"
    return tuple(path.read_text(encoding="utf-8").splitlines())
