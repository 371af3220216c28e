"""Names that become parts of paths and addresses, checked before any path is made. No torch.

Repositories, revisions and files are named by catalogues, configurations, pins, mirrors and
command lines, so that anyone may choose them.
"""

from __future__ import annotations

import re

from ..errors import ConfigError

MAX_PATH = 200

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_DOTTED = (".eval_results",)  # folders that the Hub reads
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")


def is_portable(path: str) -> bool:
    """Whether a relative path stays below its folder and exists on every file system.

    Allowed are parts of letters, digits and ``._-`` that do not begin or end with a dot (but
    ``.eval_results``), no device names of Windows, at most `MAX_PATH` characters.
    """
    return len(path) <= MAX_PATH and all(
        (_PART.fullmatch(part) or part in _DOTTED)
        and not part.endswith(".")
        and not _DEVICES.fullmatch(part)
        for part in path.split("/")
    )


def check_names(repo: str, file: str = "", revision: str = "") -> None:
    """Refuse what cannot be a repository, a file in it or a revision of it.

    Args:
        repo: ``org/name``.
        file: a relative path, or empty.
        revision: a branch, tag or commit, or empty.
    Raises: ConfigError, code "repo".
    """
    parts = repo.split("/")
    if (
        len(parts) != 2
        or not all(_REPO.fullmatch(p) and _is_plain(p) for p in parts)
        or "--" in repo
    ):
        raise ConfigError(
            f"{ascii(repo)[:100]} cannot be a repository on the Hub; expected ORG/NAME",
            code="repo",
        )
    if file and not is_portable(file):
        raise ConfigError(
            f"{ascii(file)[:100]} cannot be a file of {repo}; expected letters, digits and ._- "
            "between slashes",
            code="repo",
        )
    if revision and not (_REVISION.fullmatch(revision) and _is_plain(revision)):
        raise ConfigError(
            f"{ascii(revision)[:100]} cannot be a revision of {repo}; expected a branch, tag or "
            "commit",
            code="repo",
        )


def _is_plain(name: str) -> bool:
    return ".." not in name and "//" not in name and name[-1] not in "./"
