"""Documents with generated parts, between `<!-- begin NAME -->` and `<!-- end NAME -->`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping

Part = Callable[[], str]


def renew(text: str, parts: Mapping[str, Part], file: str) -> str:
    """The document with every part renewed. Raises: ValueError for a missing part."""
    for name, part in parts.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if begin not in text or end not in text:
            raise ValueError(f"{file} has no part {begin} ... {end}")
        pattern = re.escape(begin) + r".*?" + re.escape(end)
        content = f"{begin}\n{fold(part())}\n{end}"
        text = re.sub(pattern, lambda _, content=content: content, text, flags=re.DOTALL)
    return text


def fold(text: str) -> str:
    """The text with its sentences at most 118 wide; tables, pictures and blocks as they are."""
    lines: list[str] = []
    block = False
    for line in text.split("\n"):
        block ^= line.startswith("```")
        if block or len(line) <= 120 or line.startswith(("|", "!", "<")):
            lines.append(line)
            continue
        indent = "  " if line.startswith(("- ", "* ")) else ""
        lines += textwrap.wrap(
            line, 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
    return "\n".join(lines)
