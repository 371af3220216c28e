"""Reading files of models: compared with the manifest.json of the directory in which they lie.

However a file is named (alone, by a link, from inside its directory), it is the bytes returned here
that were compared. A digest beside a file proves that nobody changed it by accident, not who made
it. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..catalog.checked_json import Document, JsonError, parse_json
from ..errors import IntegrityError, ZooError
from .local import read_regular_file, sha256_bytes
from .manifest import FILE, Manifest, parse_manifest
from .strays import owner

CONFIG = "config.json"
T = TypeVar("T")
# folders of a directory that are its own: what lies in them and is not listed was put there
_OWN = re.compile(r"\.|onnx|test_data_set_\d+")
_OUR_KEYS = {"format_version", "architecture_version", "files"}


def read_listed(
    path: str | os.PathLike[str],
    what: str = "file",
    sha256: str | None = None,
    max_bytes: int | None = None,
) -> bytes:
    """The bytes of a file.

    Args:
        what: what messages call it.
        sha256: a digest that it must have, whatever its directory says.
        max_bytes: a larger file is refused before it is read.
    Raises: IntegrityError: not what the manifest.json of its directory lists, or not listed there
        ("unlisted"), or another digest than `sha256`; and what `read_regular_file` raises.
    """
    data = read_regular_file(path, what, max_bytes)
    places = list(_places(path))
    digest = sha256_bytes(data) if sha256 or places else ""
    if sha256 and digest != sha256:
        raise _changed(Path(path).name, digest, sha256)
    for manifest, name in places:
        _compare(name, len(data), digest, manifest)
    return data


def read_document(document: Document[T], path: str | os.PathLike[str]) -> T:
    """The content of a JSON file, compared with the manifest of its directory and then checked
    against declared types. Raises: what `read_listed` and `Document.parse` raise.
    """
    data = read_listed(path, document.what, max_bytes=document.max_bytes)
    return document.parse(data, os.fspath(path))


def _check_described(manifest: Manifest, config: Mapping[str, Any]) -> None:
    own = config.get("convattn")
    if not isinstance(own, Mapping):
        return
    name = ".".join(filter(None, [str(own.get("architecture")), own.get("tag")]))
    said = (name, own.get("version", ""), own.get("architecture_version"))
    listed = (manifest.name, manifest.version, manifest.architecture_version)
    for key, ours, theirs in zip(("name", "version", "architecture version"), listed, said,
                                 strict=True):  # fmt: skip
        if ours != theirs:
            raise IntegrityError(
                f"{FILE} says {key} {str(ours)[:60]!r}, {CONFIG} says {str(theirs)[:60]!r}: one of "
                "them was changed; write the directory again",
                code="manifest",
            )


def _compare(name: str, size: int, digest: str, manifest: Manifest) -> None:
    for listed, listed_size, listed_digest in manifest.files:
        if listed == name:
            if size != listed_size:
                raise IntegrityError(
                    f"{name} has {size} bytes, {FILE} says {listed_size}; write the directory "
                    "again",
                    code="truncated" if size < listed_size else "integrity",
                )
            if digest != listed_digest:
                raise _changed(name, digest, listed_digest)
            return
    folder, _, file = name.rpartition("/")
    if _OWN.fullmatch(folder or ".") and owner(file) is None:
        raise IntegrityError(
            f"{name} is not listed in the {FILE} of its directory, so nothing vouches for it; move "
            "it out of there, or write the directory again",
            code="unlisted",
        )


def _changed(name: str, digest: str, expected: str) -> IntegrityError:
    return IntegrityError(
        f"{name} has SHA-256 {digest}, expected {expected}; it was changed, write the directory "
        "again",
        code="hash",
    )


def _places(path: str | os.PathLike[str]) -> Iterator[tuple[Manifest, str]]:
    """The manifests of the directories that hold a file, and its name in them: of the path as it is
    written, and of the file that it leads to.
    """
    for place in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        home = os.path.dirname(place)
        while True:
            manifest = _manifest(home, os.path.relpath(place, home).count(os.sep))
            if manifest is not None:
                yield manifest, Path(os.path.relpath(place, home)).as_posix()
                break
            if home == os.path.dirname(home):
                break
            home = os.path.dirname(home)


def _manifest(home: str, depth: int) -> Manifest | None:
    """The manifest of a directory, unless it has none of ours.

    Args:
        depth: how many folders lie between; a damaged file further away is no business of ours.
    """
    file = os.path.join(home, FILE)
    if not os.path.isfile(file):
        return None
    try:
        data = read_regular_file(file, FILE)
        if _is_anothers(data):
            return None
        manifest = parse_manifest(data, file)
        _check_config(os.path.join(home, CONFIG), manifest)
    except ZooError:
        if depth <= 1:
            raise
        return None
    return manifest


def _check_config(path: str, manifest: Manifest) -> None:
    if CONFIG not in manifest.paths or not os.path.isfile(path):  # a part of it was downloaded
        return
    data = read_regular_file(path, CONFIG)
    _compare(CONFIG, len(data), sha256_bytes(data), manifest)
    check_config(data, manifest)


def check_config(data: bytes, manifest: Manifest) -> None:
    """Compare what a manifest and a config.json call the model. Raises: IntegrityError."""
    with contextlib.suppress(JsonError):  # whoever reads it says what is wrong
        config = parse_json(data)
        if isinstance(config, dict):
            _check_described(manifest, config)


def _is_anothers(data: bytes) -> bool:
    """Whether a manifest.json is whole and of something else: a web page, a browser extension."""
    try:
        content = parse_json(data)
    except JsonError:
        return False
    return not (isinstance(content, dict) and _OUR_KEYS & content.keys())
