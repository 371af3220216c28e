"""Documents with generated parts, between `<!-- begin NAME -->` and `<!-- end NAME -->`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Part = Callable[[], str]


def renew(text: str, parts: Mapping[str, Part], file: str) -> str:
    """The document with every part renewed. Raises: ValueError for a missing part."""
    for name, part in parts.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if begin not in text or end not in text:
            raise ValueError(f"{file} has no part {begin} ... {end}")
        pattern = re.escape(begin) + r".*?" + re.escape(end)
        content = f"{begin}\n{part()}\n{end}"
        text = re.sub(pattern, lambda _, content=content: content, text, flags=re.DOTALL)
    return text
