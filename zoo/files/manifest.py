"""manifest.json: path, size and SHA-256 of every file of a run, export or bundle directory. No
torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ..catalog.checked_json import Document
from ..catalog.names import MAX_PATH, is_portable
from ..errors import IntegrityError, UnknownModelError, WeightsFileError
from .json_text import to_json
from .local import read_regular_file, sha256_bytes, sha256_file

FORMAT_VERSION = 1
FILE = "manifest.json"
_SEAL = "content_sha256"  # of everything else in the file


class FileEntry(TypedDict):
    """One file of a directory, as its manifest and a mirror's reference list it."""

    path: str
    size_bytes: int
    sha256: str


class _Content(TypedDict):
    format_version: int
    name: str
    version: str
    architecture_version: int
    files: list[FileEntry]


DOCUMENT = Document(_Content, "manifest", "manifest", "write the directory again", IntegrityError)


@dataclass(frozen=True)
class Manifest:
    """Contents of a manifest.json: what the directory holds, and the digest of each file."""

    name: str
    version: str
    architecture_version: int
    files: tuple[tuple[str, int, str], ...]  # (path, size_bytes, sha256)

    def to_json(self) -> str:
        """The text of manifest.json; the same files give the same bytes."""
        entries = [
            {"path": path, "size_bytes": size, "sha256": digest}
            for path, size, digest in self.files
        ]
        content = {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "version": self.version,
            "architecture_version": self.architecture_version,
            "files": entries,
        }
        return seal(content)

    @property
    def paths(self) -> tuple[str, ...]:
        """Relative paths of the listed files."""
        return tuple(path for path, _, _ in self.files)

    def digest(self, path: str) -> str:
        """SHA-256 of a listed file. Raises: IntegrityError if it is not listed."""
        for listed, _, digest in self.files:
            if listed == path:
                return digest
        raise IntegrityError(
            f"{path} is not listed in {FILE}, so nothing vouches for it; write the directory again",
            code="unlisted",
        )


def seal(content: Mapping[str, Any]) -> str:
    """The text of a manifest.json with these values, which names their digest."""
    kept = {key: value for key, value in content.items() if key != _SEAL}
    return to_json({**kept, _SEAL: _digest_of(kept)}, indent=2) + "\n"


def _digest_of(content: Mapping[str, Any]) -> str:
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return sha256_bytes(plain.encode())


def make_manifest(
    directory: Path, paths: Iterable[str], name: str, version: str, architecture_version: int
) -> Manifest:
    """Hash files of a directory."""
    files = tuple(
        (path, (directory / path).stat().st_size, sha256_file(directory / path))
        for path in sorted(paths)
    )
    return Manifest(name, version, architecture_version, files)


def read_manifest(directory: str | Path) -> Manifest:
    """Read manifest.json. Raises: UnknownModelError if there is none, and as `parse_manifest`."""
    path = Path(directory) / FILE
    if not path.is_file():
        raise UnknownModelError(
            f"{str(directory)!r} has no {FILE}; pass a directory that `convattn train` or "
            "`convattn export` wrote",
            code="no_manifest",
        )
    return parse_manifest(read_regular_file(path, FILE, DOCUMENT.max_bytes), str(path))


def parse_manifest(data: bytes, what: str) -> Manifest:
    """The manifest in the bytes of a manifest.json.

    Raises: IntegrityError (code "manifest"): malformed, or changed since it was written;
        WeightsFileError: of a newer format ("manifest_version"), or with a file name that leaves
        the directory or does not exist on every system ("path").
    """
    content = DOCUMENT.parse(data, what)
    version = content["format_version"]
    if version > FORMAT_VERSION:
        raise WeightsFileError(
            f"{what} has format {version}, this convattn-zoo reads up to {FORMAT_VERSION}; "
            "install a newer one",
            code="manifest_version",
        )
    sealed = {key: value for key, value in content.items() if key != _SEAL}
    named = content.get(_SEAL)
    if named != _digest_of(sealed):
        raise IntegrityError(
            f"{what} {'was changed' if named else 'does not name its own digest'}; write the "
            "directory again",
            code="manifest",
        )
    manifest = Manifest(
        content["name"],
        content["version"],
        content["architecture_version"],
        tuple((e["path"], e["size_bytes"], e["sha256"]) for e in content["files"]),
    )
    check_portable(manifest.paths, what)
    return manifest


def check_portable(paths: Iterable[str], what: str) -> None:
    """Refuse file names that leave the directory, or that some file system cannot hold.

    Allowed is what `is_portable` allows, and no two names that differ in case only.

    Raises: WeightsFileError, code "path".
    """
    seen: dict[str, str] = {}
    for name in paths:
        if not is_portable(name):
            raise WeightsFileError(
                f"{what} lists {name[:MAX_PATH]!r}, which leaves the directory or is no portable "
                "file name; expected letters, digits and ._- between slashes",
                code="path",
            )
        twin = seen.setdefault(name.lower(), name)
        if twin != name:
            text = f"{what} lists {twin!r} and {name!r}, which are one file on some systems"
            raise WeightsFileError(text, code="path")


def check_files(directory: str | Path, manifest: Manifest) -> None:
    """Compare every listed file with its digest.

    Raises: IntegrityError that names the first file that is missing, cut short or changed.
    """
    for name, size, digest in manifest.files:
        path = Path(directory) / name
        if not path.exists():
            raise IntegrityError(
                f"{name} is missing from {directory}; write it again", code="missing"
            )
        data = read_regular_file(path, name)
        if len(data) != size:
            raise IntegrityError(
                f"{name} has {len(data)} bytes, {FILE} says {size}; write the directory again",
                code="truncated" if len(data) < size else "integrity",
            )
        if sha256_bytes(data) != digest:
            raise IntegrityError(
                f"{name} has SHA-256 {sha256_bytes(data)}, {FILE} says {digest}; it was changed, "
                "write the directory again",
                code="hash",
            )
