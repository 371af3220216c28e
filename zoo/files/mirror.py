"""A mirror: a folder or a plain file server that stands in for the Hub. No torch.

``CONVATTN_MIRROR`` names it; then nothing else is asked. `convattn fetch NAME --to DIR` writes one:

    ORG/NAME/resolve/COMMIT/FILE    the files, under the Hub's own addresses
    ORG/NAME/refs/REVISION.json     what a branch, tag or commit stands for: commit, sizes, digests

Files of a server are kept in ``$CONVATTN_HOME/mirror``, which has the same form.
"""

from __future__ import annotations

import contextlib
import os
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from ..catalog.checked_json import Document
from ..catalog.names import check_names
from ..catalog.weights_records import COMMIT, SHA256
from ..errors import ConfigError, IntegrityError, NetworkError, ZooError
from .addresses import plain_address
from .json_text import to_json
from .local import (
    atomic_path,
    home,
    make_directory,
    read_regular_file,
    remove_any,
    require_space,
    write_bytes,
)
from .manifest import FileEntry
from .patience import Patience

_TIMEOUT = 20.0  # seconds without a byte


class _Content(TypedDict):
    format_version: int
    repo: str
    commit: str
    files: list[FileEntry]


DOCUMENT = Document(
    _Content, "reference of a mirror", "mirror", "write it again with `convattn fetch --to`"
)


@dataclass(frozen=True)
class Ref:
    """What a revision of a repository stands for: a commit and its files, (size, SHA-256)."""

    repo: str
    commit: str
    files: Mapping[str, tuple[int, str]]

    def __post_init__(self) -> None:
        for file in ("", *self.files):
            check_names(self.repo, file, self.commit)

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
        return to_json(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, data: bytes, what: str) -> Ref:
        """The inverse of `to_json`. Raises: ConfigError."""
        content = DOCUMENT.parse(data, what)
        files = {e["path"]: (e["size_bytes"], e["sha256"]) for e in content["files"]}
        commit = content["commit"]
        good = COMMIT.fullmatch(commit) and all(SHA256.fullmatch(d) for _, d in files.values())
        if not good or content["format_version"] != 1:
            raise DOCUMENT.refusal(what, "not a commit with digests in format 1")
        return cls(content["repo"], commit, files)


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
        check_names(repo, revision=revision)
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
            data = _read(self._url(path), DOCUMENT.max_bytes)
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
        check_names(repo, file, commit)
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
                remove_any(kept)
                require_space(kept.parent, size_bytes, f"{file} of {repo}", "set CONVATTN_HOME")
                with atomic_path(kept) as temporary:
                    _download(self._url(path), temporary)
        return kept

    def _url(self, path: str) -> str:
        return f"{self.address.rstrip('/')}/{urllib.parse.quote(path)}"

    def _missing(self, path: str, code: str) -> NetworkError:
        text = f"the mirror CONVATTN_MIRROR={plain_address(self.address)} has no {path}"
        return NetworkError(f"{text}; write it with `convattn fetch NAME --to DIR`", code=code)


def find_mirror() -> Mirror | None:
    """The mirror that CONVATTN_MIRROR names. Raises: ConfigError if it cannot be one."""
    address = os.environ.get("CONVATTN_MIRROR", "")
    if not address:
        return None
    mirror = Mirror(address)
    if mirror.folder is not None and not mirror.folder.is_dir():
        text = (
            f"CONVATTN_MIRROR={plain_address(address)!r} is neither a folder nor an http(s) address"
        )
        raise ConfigError(f"{text}; correct or unset it", code="mirror")
    return mirror


def write_references(folder: Path, ref: Ref, revisions: Iterable[str]) -> None:
    """Write what names a commit in a mirror, after its files: no reader sees half of it.

    Files of the same commit that were written before stay listed.

    Args:
        revisions: names under which the commit is found, besides its own hash.
    Raises: ResourceError.
    """
    places = [
        folder / ref.repo / "refs" / f"{urllib.parse.quote(name, safe='')}.json"
        for name in (ref.commit, *revisions)
    ]
    with contextlib.suppress(ZooError):  # there is none yet, or a damaged one
        before = Ref.from_json(read_regular_file(places[0], "mirror"), str(places[0]))
        if (before.repo, before.commit) == (ref.repo, ref.commit):
            ref = replace(ref, files={**before.files, **ref.files})
    for place in places:
        write_bytes(place, ref.to_json().encode())


def _kept() -> Path:
    return home() / "mirror"


def _read(url: str, limit: int) -> bytes:
    with _open(url) as answer:
        data: bytes = answer.read(limit + 1)
    if len(data) > limit:
        raise NetworkError(
            f"{plain_address(url)} is larger than {limit} bytes; it is no reference", code="limit"
        )
    return data


def _download(url: str, path: Path) -> None:
    """Stream a file, with new attempts after an interruption. Raises: NetworkError."""
    patience = Patience()

    def attempt() -> None:
        with _open(url, min(_TIMEOUT, patience.left)) as answer, open(path, "wb") as handle:
            announced = int(answer.headers.get("Content-Length") or -1)
            while block := answer.read1(1 << 20):
                handle.write(block)
                patience.arrived()
            if announced >= 0 and handle.tell() != announced:
                raise IntegrityError(
                    f"{plain_address(url)} sent {handle.tell()} of {announced} bytes; try again",
                    code="truncated",
                )

    def may_pass(error: Exception) -> bool:
        return isinstance(error, ZooError) and error.code in ("truncated", "network")

    patience.retry(attempt, may_pass)


@contextlib.contextmanager
def _open(url: str, timeout: float = _TIMEOUT) -> Iterator[Any]:
    """An open answer of a file server. Raises: NetworkError, also for errors while reading it."""
    from http.client import HTTPException

    host = urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        text = f"cannot ask the mirror at {host}: HF_HUB_OFFLINE is set; unset it"
        raise NetworkError(f"{text}, or load once with a connection", code="offline")
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        error.close()
        code = {404: "no_file", 401: "unauthorized", 403: "unauthorized"}.get(error.code, "network")
        text = f"the mirror at {host} answered {plain_address(url)} with status {error.code}"
        raise NetworkError(f"{text}; check CONVATTN_MIRROR", code=code) from None
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        text = f"no answer from the mirror at {host} ({getattr(error, 'reason', error)!r})"
        raise NetworkError(f"{text}; check the connection and CONVATTN_MIRROR") from None
