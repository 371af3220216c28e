"""What this user exported, by digest: the code in these files may run without being asked for.

TorchScript files and torch.export archives are programs. A digest that lies beside such a file
vouches for its integrity, not for its author; a digest that an export of this user's wrote into
his own home does. Standard library only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from ..errors import IntegrityError
from .local import home, make_directory

CODE_SUFFIXES = (".pt", ".pt2")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def remember(digests: Iterable[str]) -> None:
    """Note SHA-256 digests of files that were written here. Raises: ResourceError."""
    new = sorted(set(digests) - known_digests())
    if not new:
        return
    make_directory(home())
    # one write of whole lines to a file opened for appending: writers do not mix
    handle = os.open(_path(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, "".join(f"{digest}\n" for digest in new).encode())
    finally:
        os.close(handle)


def known_digests() -> frozenset[str]:
    """All digests in the ledger; a damaged line is none."""
    try:
        with open(_path(), encoding="ascii", errors="replace") as lines:
            return frozenset(filter(_DIGEST.fullmatch, (line.strip() for line in lines)))
    except OSError:
        return frozenset()


def require_own_code(name: str, digest: str, trust_code: bool) -> None:
    """Raises: IntegrityError (code "code_not_trusted") for code that was not exported here."""
    if not (trust_code or digest in known_digests()):
        raise IntegrityError(
            f"{name[-80:]} is code that was not exported here, and running it can do anything; use "
            "an .onnx file, or give --trust-code (trust_code=True) if you trust whoever made it",
            code="code_not_trusted",
        )


def _path() -> str:
    return str(home() / "exported.sha256")
