"""manifest.json: path, size and SHA-256 of every file of a run, export or bundle directory. No
torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import IntegrityError, UnknownModelError, WeightsFileError
from .files import read_regular_file, sha256_bytes, sha256_file

FORMAT_VERSION = 1
FILE = "manifest.json"


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
        return json.dumps(content, indent=2) + "\n"

    @property
    def paths(self) -> tuple[str, ...]:
        """Relative paths of the listed files."""
        return tuple(path for path, _, _ in self.files)

    def digest(self, path: str) -> str:
        """SHA-256 of a listed file. Raises: IntegrityError if it is not listed."""
        for listed, _, digest in self.files:
            if listed == path:
                return digest
        raise IntegrityError(f"{path} is not listed in {FILE}", code="unlisted")


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
    """Read manifest.json. Raises: UnknownModelError if there is none, WeightsFileError if
    malformed.
    """
    path = Path(directory) / FILE
    if not path.is_file():
        raise UnknownModelError(
            f"{str(directory)!r} has no {FILE}; pass a directory that `convattn train` or "
            "`convattn export` wrote",
            code="no_manifest",
        )
    try:
        content: dict[str, Any] = json.loads(read_regular_file(path, FILE))
        files = tuple(
            (str(e["path"]), int(e["size_bytes"]), str(e["sha256"])) for e in content["files"]
        )
        for name, _, _ in files:
            _check_path(name)
        return Manifest(
            str(content["name"]),
            str(content["version"]),
            int(content["architecture_version"]),
            files,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsFileError(f"{path} is not a manifest: {error!r}", code="manifest") from None


def _check_path(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not name or "\\" in name or "\0" in name:
        raise ValueError(f"path {name!r} leaves the directory")


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
