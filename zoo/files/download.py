"""Files from the Hugging Face Hub or a mirror, verified by digest on every load. No torch.

The client compares no content: a changed transfer or cached file comes back as success. So the
bytes are hashed here; a mismatch is downloaded once more before it is an error. A pinned file that
is in the cache costs no request.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from ..catalog.names import check_names
from ..catalog.weights_records import COMMIT, SHA256, WeightsRecord
from ..errors import IntegrityError, NetworkError, NotFoundError, WeightsFileError, ZooError
from .addresses import guard_logs
from .aside import set_aside
from .client_errors import client_errors, explain, is_transient
from .local import read_regular_file, require_space, sha256_bytes
from .mirror import Mirror, find_mirror
from .partial_downloads import remove_orphans
from .patience import Patience
from .pins import Pin, require_pinned, verify_bytes
from .strays import STALE_SECONDS

Verify = Callable[[bytes, Path], None]


@dataclass(frozen=True)
class _Wanted:
    """A file to find: where, and how many bytes it has, if that is known.

    Raises: ConfigError for names that would leave the place where such files lie.
    """

    repo: str
    file: str
    revision: str
    size_bytes: int = 0

    def __post_init__(self) -> None:
        check_names(self.repo, self.file, self.revision)


def download_verified(record: WeightsRecord | Pin) -> bytes:
    """The bytes of a pinned file from the cache, the mirror or the Hub; size and SHA-256 are
    checked always.

    Raises: IntegrityError if the file still differs after a second download (nothing bad stays in
        the cache), NetworkError, ResourceError.
    """
    expected = cast(WeightsRecord, record)  # a Pin has the attributes that verify_bytes reads

    def verify(data: bytes, _: Path) -> None:
        verify_bytes(data, expected)

    wanted = _Wanted(record.repo, record.file, record.revision, record.size_bytes)
    return _fetch(wanted, verify)[0]


def fetch_file(
    repo: str, filename: str, revision: str = "main", sha256: str = ""
) -> tuple[bytes, str]:
    """A file at a branch, tag or commit, checked against the digest that the server states.

    Pass the returned commit on, and all files of a model come from one snapshot.

    Args:
        sha256: digest that a manifest states, which must hold too.
    Returns: the bytes and the full hash of their commit.
    Raises: IntegrityError, NetworkError, ResourceError, ConfigError (an impossible name).
    """
    pinned = COMMIT.fullmatch(revision) is not None
    if require_pinned() and not pinned:
        text = "is not pinned and CONVATTN_REQUIRE_PINNED is set; name a full commit hash after @"
        raise IntegrityError(f"{repo}@{revision} {text}", code="unpinned")
    mirror = find_mirror()
    if mirror is None:
        verify = functools.partial(_verify_stated, repo, filename, sha256)
        data, path = _fetch(_Wanted(repo, filename, revision), verify)
        commit = _commit_of(path, filename)
    else:
        ref = mirror.resolve(repo, revision)
        size, stated = ref.digest(filename)
        commit = ref.commit
        verify = functools.partial(_verify_digests, repo, filename, (stated, sha256))
        data, _ = _fetch(_Wanted(repo, filename, commit, size), verify)
    if pinned and commit != revision:
        raise IntegrityError(
            f"{repo}@{revision} came back as commit {commit}; the Hub or the mirror is wrong, try "
            "again or use another mirror",
            code="revision",
        )
    return data, commit


def place_of(repo: str, file: str, commit: str) -> Path:
    """Where the cache or the mirror keeps a file. Raises: as `fetch_file`."""
    return _locate(_Wanted(repo, file, commit), find_mirror())


def _fetch(wanted: _Wanted, verify: Verify) -> tuple[bytes, Path]:
    """Locate, read and verify; what differs is set aside and downloaded once more."""
    mirror = find_mirror()
    failure: IntegrityError | None = None
    with set_aside() as aside:
        for _ in range(2):
            path = None
            try:
                path = _locate(wanted, mirror)
                return _read(path, verify), path
            except IntegrityError as error:
                failure = error
                if path is not None and not (mirror and mirror.owns(path)):
                    aside.take(path)
            except ZooError as error:
                if failure is None:
                    raise
                aside.put_back()
                again = f"{failure}; downloading it again failed: {error}"
                raise IntegrityError(again, code=failure.code) from None
    assert failure is not None
    raise failure


def _read(path: Path, verify: Verify) -> bytes:
    """Read and verify a file. Raises: IntegrityError, also for a FIFO or folder in its place, or
    for nothing (another process removed it).
    """
    try:
        data = read_regular_file(path, "cached file")
    except (NotFoundError, WeightsFileError) as error:
        raise IntegrityError(f"{path.name} in the cache is no file", code=error.code) from None
    verify(data, path)
    return data


def _locate(wanted: _Wanted, mirror: Mirror | None) -> Path:
    """The file in the Hugging Face cache; if it is not there, in the mirror or downloaded."""
    import huggingface_hub as hf
    from huggingface_hub.errors import HfHubHTTPError

    guard_logs()
    place = (wanted.repo, wanted.file)
    try:
        cached = hf.try_to_load_from_cache(*place, revision=wanted.revision)
        if isinstance(cached, str) and COMMIT.fullmatch(wanted.revision):
            return Path(cached)
        if mirror is not None:
            return mirror.locate(*place, wanted.revision, wanted.size_bytes)
        if not isinstance(cached, str):
            # Asking once first: where nothing listens, hf_hub_download would retry for 23 s.
            size = wanted.size_bytes
            with contextlib.suppress(HfHubHTTPError):
                url = hf.hf_hub_url(*place, revision=wanted.revision)
                size = hf.get_hf_file_metadata(url).size or size
            _check_space(wanted, size)
        return _download(wanted)
    except client_errors() as error:
        if isinstance(error, ZooError):
            raise
        raise explain(error, *place) from None


def _download(wanted: _Wanted, kind: str = "model") -> Path:
    """hf_hub_download, repeated after a cut connection or a busy server, within our patience.

    Args:
        kind: of repository: "model" or "dataset".
    """
    import huggingface_hub as hf
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    patience = Patience()

    class Listening(tqdm):
        """The client's progress bar, which hears every byte."""

        def update(self, n: float | None = 1) -> bool | None:
            patience.arrived()
            shown: bool | None = super().update(n)
            return shown

    def attempt() -> Path:
        return Path(
            hf.hf_hub_download(
                wanted.repo,
                wanted.file,
                revision=wanted.revision,
                repo_type=kind,
                tqdm_class=Listening,
            )
        )

    what = f"cannot download {wanted.file} of {wanted.repo}"
    path = patience.retry(lambda: patience.call(attempt, what), is_transient)
    blobs = path.parents[len(PurePosixPath(wanted.file).parts) + 1] / "blobs"
    remove_orphans(blobs, STALE_SECONDS)
    return path


def _check_space(wanted: _Wanted, size: int) -> None:
    """Raises: ResourceError before a download that the disk cannot hold."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    require_space(folder, size, f"{wanted.file} of {wanted.repo}", "set HF_HOME")


def _commit_of(path: Path, filename: str) -> str:
    """The commit in ``.../snapshots/<commit>/<filename>``."""
    return path.parents[len(PurePosixPath(filename).parts) - 1].name


def _verify_stated(repo: str, file: str, sha256: str, data: bytes, path: Path) -> None:
    """Compare with the server's digest: SHA-256 of an LFS file, git's blob hash of any other."""
    import huggingface_hub as hf

    stated = stated_digest(path)
    if not stated:  # a cache without links: ask; where nothing answers, nothing is stated
        with contextlib.suppress(*client_errors()):
            url = hf.hf_hub_url(repo, file, revision=_commit_of(path, file))
            stated = hf.get_hf_file_metadata(url).etag or ""
    _verify_digests(repo, file, (stated, sha256), data, path)


def stated_digest(path: Path) -> str:
    """The digest after which the cache calls a blob, or "" in a cache without links."""
    try:
        return Path(os.readlink(path)).name
    except OSError:
        return ""


def digest_like(stated: str, data: bytes) -> str:
    """The digest of `data` of the kind that `stated` has: SHA-256, git's of a blob, else ""."""
    if SHA256.fullmatch(stated):
        return sha256_bytes(data)
    if COMMIT.fullmatch(stated):
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return ""


def _verify_digests(repo: str, file: str, stated: tuple[str, str], data: bytes, _: Path) -> None:
    """Compare with what the server or mirror states, and with what a manifest states."""
    for digest, who in zip(stated, ("the Hub states", "the manifest says"), strict=True):
        found = digest_like(digest, data)
        if found and found != digest:
            text = f"{file} of {repo} has digest {found}, {who} {digest}; download it again"
            raise IntegrityError(text, code="hash")


def fetch_data_file(repo: str, filename: str, revision: str = "main") -> bytes:
    """A file of a repository of data, from the Hub's cache or the Hub.

    Nothing is pinned here: who reads it must compare its content with digests of its own.

    Raises: NetworkError, ResourceError; with a mirror, which holds models only, NetworkError.
    """
    wanted = _Wanted(repo, filename, revision)
    if find_mirror() is not None:
        raise NetworkError(
            f"{repo} is data, which mirrors do not hold; name a folder that has it, or unset "
            "CONVATTN_MIRROR",
            code="no_file",
        )
    guard_logs()
    try:
        path = _download(wanted, "dataset")
    except client_errors() as error:
        if isinstance(error, ZooError):
            raise
        raise explain(error, repo, filename) from None
    return read_regular_file(path, "cached file")
