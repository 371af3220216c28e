"""A mirror: a folder or a plain file server that stands in for the Hub. No torch.

``CONVATTN_MIRROR`` names it; then nothing else is asked. `convattn fetch NAME --to DIR` writes one:

    ORG/NAME/resolve/COMMIT/FILE    the files, under the Hub's own addresses
    ORG/NAME/refs/REVISION.json     what a branch, tag or commit stands for: commit, sizes, digests

Files of a server are kept in ``$CONVATTN_HOME/mirror``, which has the same form.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ConfigError, IntegrityError, NetworkError
from .files import atomic_path, make_directory, read_regular_file, require_space, write_bytes
from .pins import home
from .records import COMMIT, SHA256

_PAUSES = (0.5, 1.0)  # seconds before the second and third attempt
_TIMEOUT = 20.0  # seconds without a byte
_MAX_REF_BYTES = 4 << 20


@dataclass(frozen=True)
class Ref:
    """What a revision of a repository stands for: a commit and its files, (size, SHA-256)."""

    repo: str
    commit: str
    files: Mapping[str, tuple[int, str]]

    def digest(self, file: str) -> tuple[int, str]:
        """Size and SHA-256 of a file. Raises: NetworkError if the mirror does not have it."""
        if file not in self.files:
            text = f"the mirror has no {file} of {self.repo} at {self.commit}"
            raise NetworkError(f"{text}; write it with `convattn fetch --all`", code="no_file")
        return self.files[file]

    def to_json(self) -> str:
        """The content of a file under refs/."""
        files = [
            {"path": path, "size_bytes": size, "sha256": digest}
            for path, (size, digest) in sorted(self.files.items())
        ]
        content = {"format_version": 1, "repo": self.repo, "commit": self.commit, "files": files}
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, data: bytes, what: str) -> Ref:
        """The inverse of `to_json`. Raises: ConfigError."""
        try:
            content: dict[str, Any] = json.loads(data)
            files = {
                str(e["path"]): (int(e["size_bytes"]), str(e["sha256"])) for e in content["files"]
            }
            commit = str(content["commit"])
            good = COMMIT.fullmatch(commit) and all(SHA256.fullmatch(d) for _, d in files.values())
            if not good or content["format_version"] != 1:
                raise ValueError("not a commit with digests in format 1")
            return cls(str(content["repo"]), commit, files)
        except (ValueError, KeyError, TypeError) as error:
            text = f"{what} is not a reference that `convattn fetch --to` wrote: {error}"
            raise ConfigError(text, code="mirror") from None


@dataclass(frozen=True)
class Mirror:
    """A mirror at a folder or an http(s) address."""

    address: str

    @property
    def folder(self) -> Path | None:
        """The folder, or None for a server."""
        if self.address.startswith(("http://", "https://")):
            return None
        return Path(self.address.removeprefix("file://")).expanduser()

    def owns(self, path: Path) -> bool:
        """Whether a file belongs to the mirror's keeper, so that we never delete it."""
        return self.folder is not None and path.is_relative_to(self.folder)

    def resolve(self, repo: str, revision: str) -> Ref:
        """What a branch, tag or commit stands for; the answer for a commit is kept.

        Raises: NetworkError, ConfigError.
        """
        path = f"{repo}/refs/{urllib.parse.quote(revision, safe='')}.json"
        if self.folder is not None:
            file = self.folder / path
            if not file.is_file():
                raise self._missing(path, "no_revision")
            return Ref.from_json(read_regular_file(file, "mirror"), str(file))
        kept = _kept() / path
        if COMMIT.fullmatch(revision) and kept.is_file():
            return Ref.from_json(read_regular_file(kept), str(kept))
        try:
            data = _read(self._url(path), _MAX_REF_BYTES)
        except NetworkError as error:
            if error.code == "no_file":
                raise self._missing(path, "no_revision") from None
            if not kept.is_file():
                raise
            data = read_regular_file(kept)  # as the Hub's cache does where nothing answers
        ref = Ref.from_json(data, self._url(path))
        write_bytes(kept, data)
        return ref

    def locate(self, repo: str, file: str, commit: str, size_bytes: int = 0) -> Path:
        """The file in the folder, or downloaded once from the server. Not verified yet.

        Raises: NetworkError, ResourceError.
        """
        path = f"{repo}/resolve/{commit}/{file}"
        if self.folder is not None:
            if not (self.folder / path).is_file():
                raise self._missing(path, "no_file")
            return self.folder / path
        kept = _kept() / path
        if kept.is_file():
            return kept
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

        make_directory(kept.parent)
        with WeakFileLock(kept.with_name(f".{kept.name}.lock")):
            if not kept.is_file():
                require_space(kept.parent, size_bytes, f"{file} of {repo}", "set CONVATTN_HOME")
                with atomic_path(kept) as temporary:
                    _download(self._url(path), temporary)
        return kept

    def _url(self, path: str) -> str:
        return f"{self.address.rstrip('/')}/{urllib.parse.quote(path)}"

    def _missing(self, path: str, code: str) -> NetworkError:
        text = f"the mirror CONVATTN_MIRROR={self.address} has no {path}"
        return NetworkError(f"{text}; write it with `convattn fetch NAME --to DIR`", code=code)


def find_mirror() -> Mirror | None:
    """The mirror that CONVATTN_MIRROR names. Raises: ConfigError if it cannot be one."""
    address = os.environ.get("CONVATTN_MIRROR", "")
    if not address:
        return None
    mirror = Mirror(address)
    if mirror.folder is not None and not mirror.folder.is_dir():
        text = f"CONVATTN_MIRROR={address!r} is neither a folder nor an http(s) address"
        raise ConfigError(f"{text}; correct or unset it", code="mirror")
    return mirror


def write_references(folder: Path, ref: Ref, revisions: Iterable[str]) -> None:
    """Write what names a commit in a mirror, after its files: no reader sees half of it.

    Args:
        revisions: names under which the commit is found, besides its own hash.
    Raises: ResourceError.
    """
    for name in (ref.commit, *revisions):
        place = folder / ref.repo / "refs" / f"{urllib.parse.quote(name, safe='')}.json"
        write_bytes(place, ref.to_json().encode())


def _kept() -> Path:
    return home() / "mirror"


def _read(url: str, limit: int) -> bytes:
    with _open(url) as answer:
        data: bytes = answer.read(limit + 1)
    if len(data) > limit:
        raise NetworkError(f"{url} is larger than {limit} bytes; it is no reference", code="limit")
    return data


def _download(url: str, path: Path) -> None:
    """Stream a file, with new attempts after an interruption. Raises: NetworkError."""
    for pause in (*_PAUSES, None):
        try:
            with _open(url) as answer, open(path, "wb") as handle:
                announced = int(answer.headers.get("Content-Length") or -1)
                while block := answer.read(1 << 20):
                    handle.write(block)
                if announced >= 0 and handle.tell() != announced:
                    raise IntegrityError(
                        f"{url} sent {handle.tell()} of {announced} bytes; try again",
                        code="truncated",
                    )
                return
        except (IntegrityError, NetworkError) as error:
            if pause is None or error.code not in ("truncated", "network"):
                raise
        time.sleep(pause or 0.0)


@contextlib.contextmanager
def _open(url: str) -> Iterator[Any]:
    """An open answer of a file server. Raises: NetworkError, also for errors while reading it."""
    from http.client import HTTPException

    host = urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        text = f"cannot ask the mirror at {host}: HF_HUB_OFFLINE is set; unset it"
        raise NetworkError(f"{text}, or load once with a connection", code="offline")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        code = {404: "no_file", 401: "unauthorized", 403: "unauthorized"}.get(error.code, "network")
        text = f"the mirror at {host} answered {url} with status {error.code}"
        raise NetworkError(f"{text}; check CONVATTN_MIRROR", code=code) from None
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        text = f"no answer from the mirror at {host} ({getattr(error, 'reason', error)!r})"
        raise NetworkError(f"{text}; check the connection and CONVATTN_MIRROR") from None
