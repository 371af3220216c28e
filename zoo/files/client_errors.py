"""The Hugging Face client's errors in our words: what was refused and what to do next. No torch."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from ..errors import ConfigError, IntegrityError, NetworkError, ResourceError, ZooError
from .local import resource_error

TRANSIENT = (408, 429, 500, 502, 503, 504)  # answers after which another attempt can succeed


def client_errors() -> tuple[type[Exception], ...]:
    """What calls of the client raise: transport errors are not OSError since its version 1.0."""
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    return (OSError, ValueError, RuntimeError, httpx.HTTPError, httpx.InvalidURL)


def unwrap(error: Exception) -> Exception:
    """The cause that the client wraps: "not in the cache", "error while uploading"."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    cause = error.__cause__
    wrapper = isinstance(error, LocalEntryNotFoundError) or type(error) is RuntimeError
    if wrapper and isinstance(cause, Exception):
        return cause
    return error


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed in a moment: a cut connection, a busy server, a cache
    that another process emptied meanwhile.
    """
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    error = unwrap(error)
    if _status(error) in TRANSIENT or isinstance(error, httpx.TransportError):
        return True
    return _is_emptied(error)


def _is_emptied(error: Exception) -> bool:
    """Whether a file or folder of the cache was removed just as it was used. `Path.mkdir` says
    "exists" of a folder that is gone when it looks whether that is one.
    """
    if type(error) is FileExistsError:
        return not os.path.exists(error.filename or os.curdir)
    return type(error) is FileNotFoundError


def explain(error: Exception, repo: str, file: str, doing: str = "download") -> ZooError:
    """One of our errors for one of the client's.

    Args:
        file: what was wanted of the repository; may be empty.
        doing: "download" or "publish".
    """
    from huggingface_hub import constants

    error = unwrap(error)
    what = f"{file} of {repo}" if file else repo
    host = urlsplit(constants.ENDPOINT).netloc.rpartition("@")[2]
    if isinstance(error, ValueError) and _status(error) is None:  # a 400 is a ValueError too
        text = f"{repo}/{file} cannot be a file on the Hub; expected ORG/NAME"
        return ConfigError(text, code="repo")
    if type(error) is OSError and error.errno is None:
        text = f"{what} arrived with another length than {host} announced; try again"
        return IntegrityError(text, code="truncated")
    if _is_emptied(error):
        text = f"{what} vanished from the Hugging Face cache while it was written; try again"
        return ResourceError(text, code="resource")
    if isinstance(error, OSError) and (code := resource_error(error, "").code) != "resource":
        text = f"cannot write the Hugging Face cache: {error.strerror}; make room or set HF_HOME"
        return ResourceError(text, code=code)
    code, text = _reason(error, host)
    return NetworkError(f"cannot {doing} {what}: {text}", code=code)


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _reason(error: Exception, host: str) -> tuple[str, str]:
    """Code of a NetworkError, what was refused and what to do."""
    from huggingface_hub import errors

    status = _status(error)
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "offline", "HF_HUB_OFFLINE is set; unset it, or load once with a connection"
    if isinstance(error, errors.GatedRepoError):
        return "gated", f"the repository is gated; ask for access on its page, then {log_in}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "not_found", f"the repository is missing or private; check the name, or {log_in}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "no_revision", "the repository has no such branch, tag or commit; check it"
    if status == 404:
        return "no_file", "the repository has no such file in this revision; check both"
    if status in (401, 403):
        return "unauthorized", f"{host} refused access ({status}); {log_in}"
    if status == 412:
        return "conflict", "somebody else changed the repository meanwhile; look, then run it again"
    if status is not None:
        return "network", f"{host} answered with status {status}; try again later"
    if isinstance(error, errors.FileMetadataError):
        return "network", f"{host} is no Hub (a login page?); check HF_ENDPOINT and the proxy"
    advice = "check the connection, proxy and HF_ENDPOINT; HF_HUB_OFFLINE=1 uses only the cache"
    return "network", f"no answer from {host} ({type(error).__name__}); {advice}"
