"""JSON as every reader accepts it: NaN and infinity become null, odd names text. Standard library
only.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any


def printable(text: str) -> str:
    """Text that UTF-8 can hold: what Python makes of other bytes in a file name as ``\\xff``, and
    halves of characters as ``\\ud800``.
    """
    other = re.sub(r"[\ud800-\udc7f\udd00-\udfff]", lambda found: ascii(found[0])[1:-1], text)
    return other.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def json_numbers(value: Any) -> Any:
    """`value` with null for numbers that JSON lacks, and texts that UTF-8 can hold."""
    if isinstance(value, str):
        return value if value.isascii() else printable(value)
    if isinstance(value, dict):
        return {json_numbers(key): json_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_numbers(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_json(value: Any, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """The text of JSON values; whatever is printed or written for others is made here."""
    return json.dumps(
        json_numbers(value), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False
    )
