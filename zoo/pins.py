"""Pins of files in someone else's repositories: commit and digest, taken on first use. No torch.

They live in one lock file. A pin never moves by itself; `convattn pin --update` moves it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import ConfigError, IntegrityError
from .files import make_directory, read_regular_file, sha256_bytes, write_text
from .records import COMMIT, SHA256

_log = logging.getLogger(__name__)
Key = tuple[str, str]  # (repo, file)


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


def require_pinned() -> bool:
    """Whether CONVATTN_REQUIRE_PINNED forbids files whose digest is not known yet."""
    return os.environ.get("CONVATTN_REQUIRE_PINNED", "").lower() not in ("", "0", "false", "no")


def home() -> Path:
    """Where the zoo keeps what it must remember: ``$CONVATTN_HOME``, else ~/.cache/convattn."""
    return Path(os.environ.get("CONVATTN_HOME") or "~/.cache/convattn").expanduser()


def lock_file() -> Path:
    """The file of all pins, ``pins.json`` in `home`."""
    return home() / "pins.json"


def pin_on_first_use(repo: str, file: str = "model.safetensors") -> Pin:
    """The pin of a file whose digest was not published: from the lock file, else taken now.

    Taking it downloads and verifies the newest commit, writes the lock file and logs a warning.
    From then on `zoo.hub.download_verified(pin)` accepts only these bytes of that commit.

    Raises: IntegrityError (code "unpinned") without a pin under CONVATTN_REQUIRE_PINNED;
        ConfigError for a damaged lock file; and what `zoo.hub.fetch_file` raises.
    """
    known = read_pins().get((repo, file))
    if known is not None:
        return known
    if require_pinned():
        text = "has no pin and CONVATTN_REQUIRE_PINNED is set; load it once without the variable"
        raise IntegrityError(f"{file} of {repo} {text}", code="unpinned")
    return _take(repo, file, replace=False)


def update_pin(repo: str, file: str = "model.safetensors") -> Pin:
    """Pin the newest commit, whatever was pinned before. Raises: as `pin_on_first_use`."""
    return _take(repo, file, replace=True)


def remove_pin(repo: str, file: str = "model.safetensors") -> bool:
    """Forget a pin; the next load takes a new one. Returns whether there was one."""
    with _locked():
        pins = read_pins()
        found = pins.pop((repo, file), None)
        if found is not None:
            _write(pins)
    return found is not None


def read_pins() -> dict[Key, Pin]:
    """All pins. Raises: ConfigError for a damaged lock file."""
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


def _take(repo: str, file: str, replace: bool) -> Pin:
    from .hub import fetch_file

    data, commit = fetch_file(repo, file)
    sha256 = sha256_bytes(data)
    pin = Pin(repo=repo, file=file, revision=commit, sha256=sha256, size_bytes=len(data))
    with _locked():
        pins = read_pins()  # again: another process may have pinned meanwhile, and the first holds
        if not replace and (repo, file) in pins:
            return pins[repo, file]
        pins[repo, file] = pin
        _write(pins)
    message = "pinned %s of %s on first use: commit %s, SHA-256 %s; a change will be an error"
    _log.warning(message, file, repo, commit, sha256)
    return pin


def _write(pins: dict[Key, Pin]) -> None:
    entries = [asdict(pins[key]) for key in sorted(pins)]
    write_text(lock_file(), json.dumps({"version": 1, "pins": entries}, indent=2) + "\n")


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """One writer at a time, so that no process loses another one's pin."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    make_directory(home())
    with WeakFileLock(home() / ".pins.lock"):
        yield
