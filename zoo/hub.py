"""Files from the Hugging Face Hub, verified by digest on every load. No torch.

The client compares no content: a changed transfer or cached file comes back as success. So the
bytes are hashed here; a mismatch is downloaded once more before it is an error. A pinned file that
is in the cache costs no request.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import cast
from urllib.parse import urlsplit

from .errors import ConfigError, IntegrityError, NetworkError, ResourceError, ZooError
from .files import read_regular_file, resource_error, sha256_bytes, write_text
from .records import COMMIT, SHA256, WeightsRecord
from .weights import verify_bytes

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A file of someone else's repository as it was at first use: a commit and a digest."""

    repo: str
    file: str
    revision: str
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        if not (COMMIT.fullmatch(self.revision) and SHA256.fullmatch(self.sha256)):
            raise ValueError(f"{self.name} needs a full commit hash and a SHA-256")

    @property
    def name(self) -> str:
        """What error messages call it."""
        return f"{self.repo}/{self.file} (pinned at first use)"


def download_verified(record: WeightsRecord | Pin) -> bytes:
    """The bytes of a pinned file from the cache or the Hub; size and SHA-256 are checked always.

    Raises: IntegrityError if the file still differs after a second download (nothing bad stays in
        the cache), NetworkError, ResourceError.
    """
    expected = cast(WeightsRecord, record)  # a Pin has the attributes that verify_bytes reads

    def verify(data: bytes, _: Path) -> None:
        verify_bytes(data, expected)

    return _fetch(record.repo, record.file, record.revision, verify)[0]


def fetch_file(repo: str, filename: str, revision: str = "main") -> tuple[bytes, str]:
    """A file at a branch, tag or commit, checked against the digest that the server states.

    Pass the returned commit on, and all files of a model come from one snapshot.

    Returns: the bytes and the full hash of their commit.
    Raises: IntegrityError, NetworkError, ResourceError, ConfigError (an impossible name).
    """
    pinned = COMMIT.fullmatch(revision) is not None
    if require_pinned() and not pinned:
        text = "is not pinned and CONVATTN_REQUIRE_PINNED is set; name a full commit hash after @"
        raise IntegrityError(f"{repo}@{revision} {text}", code="unpinned")
    verify = functools.partial(_verify_stated, repo, filename)
    data, path = _fetch(repo, filename, revision, verify)
    commit = _commit_of(path, filename)
    if pinned and commit != revision:
        raise IntegrityError(f"{repo}@{revision} came back as commit {commit}", code="revision")
    return data, commit


def require_pinned() -> bool:
    """Whether CONVATTN_REQUIRE_PINNED forbids files whose digest is not known yet."""
    return os.environ.get("CONVATTN_REQUIRE_PINNED", "").lower() not in ("", "0", "false", "no")


def lock_file() -> Path:
    """Where pins live: ``$CONVATTN_HOME/pins.json``, by default in ``~/.cache/convattn``."""
    home = os.environ.get("CONVATTN_HOME") or "~/.cache/convattn"
    return Path(home).expanduser() / "pins.json"


def pin_on_first_use(repo: str, file: str = "model.safetensors") -> Pin:
    """The pin of a file whose digest was not published: from the lock file, else taken now.

    Taking it downloads and verifies the newest commit, writes the lock file and logs a warning.
    From then on `download_verified(pin)` accepts only these bytes of that commit.

    Raises: IntegrityError (code "unpinned") without a pin under CONVATTN_REQUIRE_PINNED;
        ConfigError for a damaged lock file; and what `fetch_file` raises.
    """
    known = _read_pins().get((repo, file))
    if known is not None:
        return known
    if require_pinned():
        text = "has no pin and CONVATTN_REQUIRE_PINNED is set; load it once without the variable"
        raise IntegrityError(f"{file} of {repo} {text}", code="unpinned")
    data, commit = fetch_file(repo, file)
    sha256 = sha256_bytes(data)
    pin = Pin(repo=repo, file=file, revision=commit, sha256=sha256, size_bytes=len(data))
    pins = _read_pins()  # again: another process may have pinned meanwhile, and the first holds
    if pins.setdefault((repo, file), pin) == pin:
        entries = [asdict(pins[key]) for key in sorted(pins)]
        write_text(lock_file(), json.dumps({"version": 1, "pins": entries}, indent=2) + "\n")
        message = "pinned %s of %s on first use: commit %s, SHA-256 %s; a change will be an error"
        _log.warning(message, file, repo, commit, sha256)
    return pins[repo, file]


def _read_pins() -> dict[tuple[str, str], Pin]:
    path = lock_file()
    if not path.exists():
        return {}
    try:
        entries = json.loads(read_regular_file(path, "lock file"))["pins"]
        pins = [Pin(**entry) for entry in entries]
    except (ValueError, TypeError, KeyError) as error:
        text = f"{str(path)!r} is not a lock file of pins ({error}); restore it, or delete it"
        raise ConfigError(text, code="lock_file") from None
    return {(pin.repo, pin.file): pin for pin in pins}


def _fetch(
    repo: str, file: str, revision: str, verify: Callable[[bytes, Path], None]
) -> tuple[bytes, Path]:
    """Locate, read and verify; a mismatch is removed from the cache and downloaded once more."""
    failure: IntegrityError | None = None
    for _ in range(2):
        path = None
        try:
            path = _locate(repo, file, revision)
            data = read_regular_file(path, "cached file")
            verify(data, path)
            return data, path
        except IntegrityError as error:
            failure = error
            if path is not None:
                _discard(path)
        except ZooError as error:
            if failure is None:
                raise
            again = f"{failure}; downloading it again failed: {error}"
            raise IntegrityError(again, code=failure.code) from None
    assert failure is not None
    raise failure


def _locate(repo: str, file: str, revision: str) -> Path:
    """The file in the Hugging Face cache, downloaded if it is not there."""
    import huggingface_hub as hf
    from huggingface_hub.errors import HfHubHTTPError

    try:
        if not isinstance(hf.try_to_load_from_cache(repo, file, revision=revision), str):
            # Asking once first: where nothing listens, hf_hub_download would retry for 23 s.
            with contextlib.suppress(HfHubHTTPError):
                hf.get_hf_file_metadata(hf.hf_hub_url(repo, file, revision=revision))
        return Path(hf.hf_hub_download(repo, file, revision=revision))
    except _client_errors() as error:
        raise _explain(error, repo, file) from None


def _discard(path: Path) -> None:
    """Remove a snapshot's link and its blob, so that the next download starts afresh.

    ``force_download=True`` would not do: in a cache without links it keeps the old snapshot file.
    """
    for part in (path.resolve(), path):
        with contextlib.suppress(OSError):
            part.unlink()


def _client_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    return (OSError, ValueError, RuntimeError, httpx.HTTPError, httpx.InvalidURL)


def _commit_of(path: Path, filename: str) -> str:
    """The commit in ``.../snapshots/<commit>/<filename>``."""
    return path.parents[len(PurePosixPath(filename).parts) - 1].name


def _verify_stated(repo: str, file: str, data: bytes, path: Path) -> None:
    """Compare with the server's digest: SHA-256 of an LFS file, git's blob hash of any other."""
    import huggingface_hub as hf

    stated = ""
    try:
        stated = Path(os.readlink(path)).name  # the cache calls a blob by its digest
    except OSError:  # a cache without links: ask; where nothing answers, nothing is stated
        with contextlib.suppress(*_client_errors()):
            url = hf.hf_hub_url(repo, file, revision=_commit_of(path, file))
            stated = hf.get_hf_file_metadata(url).etag or ""
    if SHA256.fullmatch(stated):
        found = sha256_bytes(data)
    elif COMMIT.fullmatch(stated):
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    else:
        return
    if found != stated:
        text = f"{file} of {repo} has digest {found}, the Hub states {stated}; download it again"
        raise IntegrityError(text, code="hash")


def _explain(error: Exception, repo: str, file: str) -> ZooError:
    """One of our errors for one of the client's."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # wrapped in "not in the cache"
    host = urlsplit(constants.ENDPOINT).netloc.rpartition("@")[2]
    if isinstance(error, ValueError):
        text = f"{repo}/{file} cannot be a file on the Hub; expected ORG/NAME"
        return ConfigError(text, code="repo")
    if type(error) is OSError and error.errno is None:
        text = f"{file} of {repo} arrived with another length than {host} announced; try again"
        return IntegrityError(text, code="truncated")
    if isinstance(error, OSError) and (code := resource_error(error, "").code) != "resource":
        text = f"cannot write the Hugging Face cache: {error.strerror}; make room or set HF_HOME"
        return ResourceError(text, code=code)
    code, text = _reason(error, host)
    return NetworkError(f"cannot download {file} of {repo}: {text}", code=code)


def _reason(error: Exception, host: str) -> tuple[str, str]:
    """Code of a NetworkError, what was refused and what to do."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "offline", "HF_HUB_OFFLINE is set; unset it, or load once with a connection"
    if isinstance(error, errors.GatedRepoError):
        return "gated", f"the repository is gated; ask for access on its page, then {log_in}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "not_found", f"the repository is missing or private; check the name, or {log_in}"
    if status == 404:
        return "not_found", "the repository has no such file or revision; check both"
    if status in (401, 403):
        return "unauthorized", f"{host} refused access ({status}); {log_in}"
    if status is not None:
        return "network", f"{host} answered with status {status}; try again later"
    if isinstance(error, errors.FileMetadataError):
        return "network", f"{host} is no Hub (a login page?); check HF_ENDPOINT and the proxy"
    advice = "check the connection, proxy and HF_ENDPOINT; HF_HUB_OFFLINE=1 uses only the cache"
    return "network", f"no answer from {host} ({type(error).__name__}); {advice}"
