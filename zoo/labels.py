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
        name: "digits", "imagenet1k" (WordNet lemmas of the 1,000 ILSVRC 2012 synsets, in the sorted
            order of their synset identifiers; see THIRD_PARTY.md) or "" (no names).
    Raises: ConfigError for an unknown list.
    """
    if not name:
        return ()
    if name == "digits":
        return _DIGITS
    path = Path(__file__).parent / "catalog" / f"labels_{name}.txt"
    if not path.is_file():
        raise ConfigError(f"unknown label list {name!r}; expected 'digits' or 'imagenet1k'")
    return tuple(path.read_text(encoding="utf-8").splitlines())
