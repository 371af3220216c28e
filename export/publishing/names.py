"""Names in a bundle and of its repository. What is finished is published without torch."""

from __future__ import annotations

import re

from zoo.errors import ConfigError

PROVENANCE = "provenance.json"
CARD = "README.md"
PROCESSOR = "preprocessor_config.json"
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def check_repo(repo: str) -> None:
    """Raises: ConfigError (code "repo") unless it is ORG/NAME, or nothing."""
    if repo and not _REPO.fullmatch(repo):
        raise ConfigError(f"--repo must be ORG/NAME; got {repo!r}", code="repo")
