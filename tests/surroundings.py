"""What tests find around them: a home of their own, no network, and no more rights than a user."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

NOBODY = "http://127.0.0.1:9"  # where nothing listens
_OUTSIDE = "CONVATTN_TESTS_OUTSIDE"
# What a caller says to the tests themselves.
_FOR_TESTS = ("CONVATTN_GOLDENS", "CONVATTN_REQUIRE_", "CONVATTN_WRITE_", _OUTSIDE)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def places(home: Path) -> dict[str, str]:
    """Variables that say where a process keeps its files, all below `home`."""
    return {
        "HOME": str(home),
        "CONVATTN_HOME": str(home / "convattn"),
        "HF_HOME": str(home / "hf"),
        "TORCH_HOME": str(home / "torch"),
        **{f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")},
    }


def close(home: Path) -> None:
    """Leave the user's settings, files and network, in this process and in those that it starts.

    Processes are told of a proxy that does not answer; `outside` still knows the way.
    """
    os.environ.setdefault(_OUTSIDE, json.dumps(dict(os.environ)))  # a worker finds it there
    for name in list(os.environ):
        if name.startswith("CONVATTN_REQUIRE_PINNED") or (
            name.startswith(("CONVATTN_", "HF_", "HUGGING_FACE_"))
            and not name.startswith(_FOR_TESTS)
        ):
            del os.environ[name]
    os.environ.update(places(home))
    os.environ["MPLCONFIGDIR"] = str(home / "matplotlib")  # one list of fonts for all tests
    for name in _PROXIES:
        os.environ[name] = os.environ[name.upper()] = NOBODY
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"


def outside() -> dict[str, str]:
    """The environment that the tests were started in, for those that install packages."""
    found: dict[str, str] = json.loads(os.environ[_OUTSIDE])
    return found


def write_anew(path: Path, data: bytes) -> None:
    """A new file, which costs nothing; a file cut to nothing and written again waits for the disk
    on ext4, thousands of times in a test that changes one.
    """
    path.unlink(missing_ok=True)
    path.write_bytes(data)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Rights(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


def drop_rights() -> int:
    """Take root's right to read and write what the modes forbid from this thread and its children
    that are no new program. Returns: the rights it had, for `set_rights`.
    """
    if sys.platform != "linux":
        return 0
    before = set_rights(None)
    set_rights(before & ~0b1110)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
    return before


def set_rights(effective: int | None) -> int:
    """Set the lower half of the effective capabilities, or only say what they are (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, rights = _Header(0x20080522, 0), (_Rights * 2)()
    if libc.capget(ctypes.byref(header), rights):
        raise OSError(ctypes.get_errno(), "capget")
    found = int(rights[0].effective)
    if effective is not None:
        rights[0].effective = effective
        if libc.capset(ctypes.byref(header), rights):
            raise OSError(ctypes.get_errno(), "capset")
    return found


@contextlib.contextmanager
def as_a_user() -> Iterator[None]:
    """The modes of files hold inside, for root too."""
    before = drop_rights()
    try:
        yield
    finally:
        if sys.platform == "linux":
            set_rights(before)
