"""From a data specification, as the command takes it, to one part of the data."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from .cifar import open_cifar
from .corruptions import KINDS as CORRUPTED
from .digits import PARTS as PARTS
from .digits import open_digits
from .folders import existing_folder, open_folder, part_folders
from .imagenet import open_imagenet
from .images import ImageDataset, check_on_unreadable

_KINDS = ("cifar10", "cifar100", "imagenet")
SPECS = "digits, DIR, cifar10:DIR, cifar100:DIR or imagenet:DIR"


def open_dataset(spec: str, part: str = "train", *, on_unreadable: str = "fail") -> ImageDataset:
    """One part of the data that `spec` names.

    Args:
        spec: "digits"; the path of an image folder; "cifar10:DIR", "cifar100:DIR" or
            "imagenet:DIR".
        part: "train", "validation" or "test".
        on_unreadable: "fail": reading an unreadable image raises; "skip": every image is decoded
            once now, and those that cannot be are left out and listed in `skipped`.
    Raises: ConfigError for another specification, NotFoundError and DatasetError for data that is
        missing, incomplete or damaged.
    """
    check_on_unreadable(on_unreadable)
    kind, place = parse_spec(spec)
    if part not in PARTS:
        raise ConfigError(f"data has the parts {', '.join(PARTS)}; got {part!r}")
    if kind == "digits":
        found = open_digits(part)
    elif kind == "imagenet":
        found = open_imagenet(place, part)
    elif kind == "folder":
        found = open_folder(place, part)
    else:
        found = open_cifar(kind, place, part)
    return found.without_unreadable() if on_unreadable == "skip" else found


def available_parts(spec: str) -> tuple[str, ...]:
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


def parse_spec(spec: str) -> tuple[str, str]:
    """(kind, directory) of a specification; kind is "digits", "folder" or one with a prefix.

    Raises: ConfigError for an unknown prefix, or none of the forms.
    """
    if spec == "digits":
        return spec, ""
    kind, colon, place = spec.partition(":")
    if colon and place and kind in _KINDS:
        return kind, place
    if kind in CORRUPTED:
        raise ConfigError(f"{spec!r} is for evaluation only; expected {SPECS}")
    if not spec or (kind in _KINDS and not Path(spec).is_dir()):
        raise ConfigError(f"cannot tell which data {spec!r} means; expected {SPECS}")
    return "folder", spec
