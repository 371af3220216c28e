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
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from .errors import IntegrityError, ZooError
from .files import read_regular_file, require_space, sha256_bytes
from .hub_errors import client_errors, explain, is_transient
from .mirror import Mirror, find_mirror
from .pins import Pin, require_pinned
from .records import COMMIT, SHA256, WeightsRecord
from .weights import verify_bytes

_PAUSES = (0.5, 1.0)  # seconds before the second and third attempt
STALE_SECONDS = 3600.0  # a partial download that nobody has touched for so long is an orphan
Verify = Callable[[bytes, Path], None]


@dataclass(frozen=True)
class _Wanted:
    """A file to find: where, and how many bytes it has, if that is known."""

    repo: str
    file: str
    revision: str
    size_bytes: int = 0


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
    """Locate, read and verify; a mismatch is removed from the cache and downloaded once more."""
    mirror = find_mirror()
    failure: IntegrityError | None = None
    for _ in range(2):
        path = None
        try:
            path = _locate(wanted, mirror)
            data = read_regular_file(path, "cached file")
            verify(data, path)
            return data, path
        except IntegrityError as error:
            failure = error
            if path is not None and not (mirror and mirror.owns(path)):
                _discard(path)
        except ZooError as error:
            if failure is None:
                raise
            again = f"{failure}; downloading it again failed: {error}"
            raise IntegrityError(again, code=failure.code) from None
    assert failure is not None
    raise failure


def _locate(wanted: _Wanted, mirror: Mirror | None) -> Path:
    """The file in the Hugging Face cache; if it is not there, in the mirror or downloaded."""
    import huggingface_hub as hf
    from huggingface_hub.errors import HfHubHTTPError

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


def _download(wanted: _Wanted) -> Path:
    """hf_hub_download, repeated after a cut connection or a busy server."""
    import huggingface_hub as hf

    for pause in (*_PAUSES, None):
        try:
            path = Path(hf.hf_hub_download(wanted.repo, wanted.file, revision=wanted.revision))
            break
        except client_errors() as error:
            if pause is None or not is_transient(error):
                raise
            time.sleep(pause)
    blobs = path.parents[len(PurePosixPath(wanted.file).parts) + 1] / "blobs"
    remove_orphans(blobs, STALE_SECONDS)
    return path


def remove_orphans(folder: Path, age_seconds: float) -> int:
    """Delete partial downloads that killed processes left behind: the client never uses them again.

    Returns: how many bytes that freed.
    """
    freed = 0
    for path in folder.glob("*.incomplete"):
        with contextlib.suppress(OSError):  # another process may be ahead of us
            state = path.stat()
            if time.time() - state.st_mtime > age_seconds:
                path.unlink()
                freed += state.st_size
    return freed


def _check_space(wanted: _Wanted, size: int) -> None:
    """Raises: ResourceError before a download that the disk cannot hold."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    require_space(folder, size, f"{wanted.file} of {wanted.repo}", "set HF_HOME")


def _discard(path: Path) -> None:
    """Remove a snapshot's link and its blob, so that the next download starts afresh.

    ``force_download=True`` would not do: in a cache without links it keeps the old snapshot file.
    """
    for part in (path.resolve(), path):
        with contextlib.suppress(OSError):  # a file that stays is found bad again, and reported
            part.unlink()


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
