"""From a data specification, as the command takes it, to one part of the data."""

from __future__ import annotations

import os

from ..catalog._data_sets import BY_NAME
from ..catalog.arguments import as_text
from ..errors import ConfigError
from .cifar import open_cifar
from .corruptions import KINDS as CORRUPTED
from .dataset import ImageDataset
from .digits import PARTS, open_digits
from .fashion_mnist import open_fashion_mnist
from .folders import existing_folder, open_folder, part_folders
from .image_listing import check_on_unreadable
from .imagenet import open_imagenet

# Opened from a directory that follows a colon.
_KINDS = ("fashion_mnist", "cifar10", "cifar100", "imagenet")
SPECS = f"{', '.join(BY_NAME)}, DIR, {', '.join(f'{kind}:DIR' for kind in _KINDS)}"


def open_dataset(
    spec: str | os.PathLike[str], part: str = "train", *, on_unreadable: str = "stop"
) -> ImageDataset:
    """One part of the data that `spec` names.

    Args:
        spec: "digits" or "fashion_mnist"; the path of an image folder, which a `Path` always is;
            "fashion_mnist:DIR", "cifar10:DIR", "cifar100:DIR" or "imagenet:DIR".
        part: "train", "validation" or "test"; of a folder also "all".
        on_unreadable: "stop": reading an unreadable image raises; "skip": every image is decoded
            once now, and those that cannot be are left out and listed in `skipped`.
    Raises: ConfigError for another specification, NotFoundError and DatasetError for data that is
        missing, incomplete or damaged.
    """
    check_on_unreadable(on_unreadable)
    kind, place = parse_spec(spec)
    if part not in PARTS and (part, kind) != ("all", "folder"):
        more = ', and "all" of a folder' if part == "all" else ""
        raise ConfigError(f"data has the parts {', '.join(PARTS)}{more}; got {part!r}")
    if kind == "digits":
        found = open_digits(part)
    elif kind == "fashion_mnist":
        found = open_fashion_mnist(place, part)
    elif kind == "imagenet":
        found = open_imagenet(place, part)
    elif kind == "folder":
        found = open_folder(place, part)
    else:
        found = open_cifar(kind, place, part)
    return found.without_unreadable() if on_unreadable == "skip" else found


def available_parts(spec: str | os.PathLike[str]) -> tuple[str, ...]:
    """The parts that `open_dataset` can open, in the order train, validation, test.

    Raises: ConfigError, NotFoundError.
    """
    kind, place = parse_spec(spec)
    if kind not in ("folder", "imagenet"):
        return PARTS
    found = set(part_folders(existing_folder(place)))
    if kind == "imagenet":
        found = (found - {"test"}) or {"validation"}
    elif not found:
        return PARTS
    elif "train" in found:
        found.add("validation")
    return tuple(part for part in PARTS if part in found)


def parse_spec(spec: str | os.PathLike[str]) -> tuple[str, str]:
    """(kind, directory) of a specification; kind is "folder", or the name of a data set.

    Raises: ConfigError for an unknown prefix, or none of the forms.
    """
    spec = as_text(spec, "data")
    if spec in BY_NAME:
        return spec, ""
    kind, colon, place = spec.partition(":")
    if colon and place and kind in _KINDS:
        return kind, place
    if kind in CORRUPTED:
        raise ConfigError(f"{spec!r} is for evaluation only; expected {SPECS}")
    if not spec or (kind in _KINDS and not os.path.isdir(spec)):
        raise ConfigError(f"cannot tell which data {spec!r} means; expected {SPECS}")
    return "folder", spec
