"""Where a model's files lie together: a directory, or a repository of the Hub at one commit.

What a repository's manifest.json lists is compared with it, whoever asks. No torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..catalog.checked_json import MAX_BYTES
from ..catalog.references import split_hub_reference
from ..errors import IntegrityError, NetworkError, NoWeightsError, UnknownModelError
from .download import fetch_file
from .listed import check_config, read_listed
from .manifest import FILE as MANIFEST
from .manifest import Manifest, parse_manifest

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Directory:
    """A directory that training, import, export or bundle wrote."""

    path: str

    def exists(self) -> bool:
        """Whether there is such a directory."""
        return os.path.isdir(self.path)

    def name_of(self, file: str) -> str:
        """What errors call a file."""
        return os.path.join(self.path, file)

    def read(self, file: str) -> bytes:
        """The bytes of a file, compared with the manifest.json of its directory.

        Raises: UnknownModelError, NoWeightsError, IntegrityError, ResourceError.
        """
        path = Path(self.path) / file
        if not path.exists() or (file == CONFIG and not path.is_file()):
            raise self._missing(file)
        return read_listed(path, file, max_bytes=MAX_BYTES if file == CONFIG else None)

    def _missing(self, file: str) -> UnknownModelError | NoWeightsError:
        if not self.exists():
            return UnknownModelError(
                f"{self.path!r} is neither a model name nor a directory; `convattn list` shows the "
                "names"
            )
        if file == WEIGHTS:
            return NoWeightsError(
                f"{self.path!r} has no {file} to load; pass pretrained=False for its architecture "
                "alone"
            )
        return UnknownModelError(
            f"{self.path!r} is not a model directory: it has no {file}; "
            "pass a directory that train, import or export wrote, or a name from `convattn list`"
        )


@dataclass(frozen=True)
class Repository:
    """A repository of the Hub at one commit, with the bytes of its manifest if it has one."""

    repo: str
    commit: str
    manifest_bytes: bytes | None

    @classmethod
    def find(cls, reference: str) -> Repository:
        """The repository of ``[hf-hub:]org/name[@revision]``.

        Raises: UnknownModelError, IntegrityError, NetworkError, ResourceError.
        """
        repo, revision = split_hub_reference(reference)
        commit = fetch_file(repo, CONFIG, revision)[1]
        return cls(repo, commit, fetch_optional(repo, MANIFEST, commit))

    @property
    def manifest(self) -> Manifest | None:
        """The parsed manifest. Raises: WeightsFileError."""
        data = self.manifest_bytes
        return None if data is None else parse_manifest(data, self.name_of(MANIFEST))

    def name_of(self, file: str) -> str:
        """What errors call a file."""
        return f"{file} of {self.repo}"

    def read(self, file: str) -> bytes:
        """The bytes of a file, compared with the digests of the server and the manifest.

        Raises: IntegrityError, NetworkError, ResourceError, WeightsFileError.
        """
        manifest = self.manifest
        sha256 = "" if manifest is None else manifest.digest(file)
        data = fetch_file(self.repo, file, self.commit, sha256=sha256)[0]
        if manifest is not None and file == CONFIG:
            check_config(data, manifest)
        return data

    def require_manifest(self) -> None:
        """Raises: NoWeightsError (code "no_manifest")."""
        if self.manifest_bytes is None:
            raise NoWeightsError(
                f"{self.repo} has no {MANIFEST}, so nothing says what its files should be; "
                f'zoo.create_model("hf-hub:{self.repo}", pretrained=True) trusts the digests of '
                "the Hub",
                code="no_manifest",
            )


def fetch_optional(repo: str, file: str, commit: str, sha256: str = "") -> bytes | None:
    """A file, or None if the repository does not have it, or offline if no load ever found it.

    Raises: as `zoo.files.download.fetch_file`.
    """
    try:
        return fetch_file(repo, file, commit, sha256)[0]
    except NetworkError as error:
        if error.code not in ("no_file", "offline"):
            raise
    if sha256:
        text = f"{repo} lacks {file}, which its record pins"
        raise IntegrityError(f"{text}; it was changed after publishing", code="missing")
    return None
