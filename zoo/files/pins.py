"""Pins of files in someone else's repositories: commit and digest, taken on first use. No torch.

They live in one lock file. A pin never moves by itself; `convattn pin --update` moves it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

from ..catalog.checked_json import Document
from ..catalog.names import check_names
from ..catalog.weights_records import COMMIT, SHA256, WeightsRecord
from ..errors import IntegrityError
from .json_text import to_json
from .local import home, make_directory, sha256_bytes, write_text, wrong_kind

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
        check_names(self.repo, self.file)
        if not (COMMIT.fullmatch(self.revision) and SHA256.fullmatch(self.sha256)):
            raise ValueError(f"{self.name} needs a full commit hash and a SHA-256")

    @property
    def name(self) -> str:
        """What error messages call it."""
        return f"{self.repo}/{self.file} (pinned at first use)"


class _Content(TypedDict):
    pins: list[Pin]


DOCUMENT = Document(_Content, "lock file of pins", "lock_file", "restore it, or delete it")


def require_pinned() -> bool:
    """Whether CONVATTN_REQUIRE_PINNED forbids files whose digest is not known yet."""
    return os.environ.get("CONVATTN_REQUIRE_PINNED", "").lower() not in ("", "0", "false", "no")


def lock_file() -> Path:
    """The file of all pins, ``pins.json`` in `home`."""
    return home() / "pins.json"


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
    return {(pin.repo, pin.file): pin for pin in DOCUMENT.read(path)["pins"]}


def _write(pins: dict[Key, Pin]) -> None:
    entries = [asdict(pins[key]) for key in sorted(pins)]
    write_text(lock_file(), to_json({"version": 1, "pins": entries}, indent=2) + "\n")


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """One writer at a time, so that no process loses another one's pin."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    make_directory(home())
    with WeakFileLock(home() / ".pins.lock"):
        yield


def verify_bytes(data: bytes, record: WeightsRecord) -> None:
    """Raises: IntegrityError if `data` is not exactly the recorded file."""
    if len(data) != record.size_bytes:
        raise IntegrityError(
            f"{record.name} has {len(data)} bytes, expected {record.size_bytes}; {_guess(data)}"
            "the file is damaged, install or download it again",
            code="truncated" if len(data) < record.size_bytes else "integrity",
        )
    digest = sha256_bytes(data)
    if digest != record.sha256:
        raise IntegrityError(
            f"{record.name} has SHA-256 {digest}, expected {record.sha256}; {_guess(data)}"
            "the file was changed, install or download it again",
            code="hash",
        )


def _guess(data: bytes) -> str:
    kind = wrong_kind(data)
    return f"it looks like {kind}; " if kind else ""
