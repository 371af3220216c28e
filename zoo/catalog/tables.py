"""What ships beside the records: class names and sample images per data set, costs per model.
Standard library only.
"""

from __future__ import annotations

import functools
from pathlib import Path

from ..errors import ConfigError
from ._data_sets import DATA_SETS
from .checked_json import parse_json
from .records import DataRecord

SHIPPED = Path(__file__).parent / "shipped"


@functools.cache
def read_labels(name: str) -> tuple[str, ...]:
    """Class names in the order of the logits.

    Args:
        name: of a data set, or "cifar10", "cifar100" (the fine classes), "imagenet1k" (WordNet
            lemmas of the 1,000 ILSVRC 2012 synsets, in the sorted order of their synset
            identifiers; see THIRD_PARTY.md) or "" (no names).
    Raises: ConfigError for an unknown list.
    """
    if not name:
        return ()
    if name in DATA_SETS and DATA_SETS[name].labels:
        return DATA_SETS[name].labels
    path = SHIPPED / f"labels_{name}.txt"
    if not path.is_file():
        raise ConfigError(f"unknown label list {name!r}; expected {', '.join(_names())}")
    return tuple(path.read_text(encoding="utf-8").splitlines())


def list_name(labels: tuple[str, ...]) -> str:
    """The name under which `read_labels` gives exactly these class names, or ""."""
    return next((name for name in _names() if read_labels(name) == labels), "")


def sample_images(name: str) -> list[Path]:
    """Real images of a data set that ship with the package: the first validation image of every
    class, in the order of the classes; none where none ship.

    Args: name: of the data set, as `list_name` gives it.
    """
    return sorted((SHIPPED / "samples" / name).glob("validation_*.png")) if name else []


def _names() -> list[str]:
    files = [path.stem.removeprefix("labels_") for path in sorted(SHIPPED.glob("labels_*.txt"))]
    return [name for name, record in DATA_SETS.items() if record.labels] + files


@functools.cache
def read_synsets() -> tuple[str, ...]:
    """The 1,000 WordNet identifiers of ILSVRC 2012, in the order of the labels "imagenet1k"."""
    path = SHIPPED / "synsets_imagenet1k.txt"
    return tuple(path.read_text(encoding="utf-8").splitlines())


def find_data_set(labels: tuple[str, ...]) -> DataRecord | None:
    """The data set that has exactly these classes, if the zoo knows it."""
    return DATA_SETS.get(list_name(labels))


def count(value: float) -> str:
    """A number with three significant digits and a unit: 311k, 5.71M, 1.26G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            scaled = value / size
            return f"{scaled:.{max(0, 2 - int(scaled >= 10) - int(scaled >= 100))}f}{unit}"
    return f"{value:g}"


COSTS = SHIPPED / "costs.json"


class _Costs(dict[str, dict[str, int]]):
    def __missing__(self, name: str) -> dict[str, int]:
        raise KeyError(f"{name}: its parameters and MACs are not counted yet; run `make tables`")


@functools.cache
def read_costs() -> dict[str, dict[str, int]]:
    """Model name -> {"params", "macs"}; MACs are for one image of the model's input size. Also
    ``MODEL.TAG`` of weights that have an input or keywords of their own.

    A model that the table lacks is a KeyError that says how to count it.
    """
    return _Costs(parse_json(COSTS.read_bytes()))
