"""Plain tables that behave in a pipe and in a narrow terminal. Standard library only."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns with two spaces between them; the last column is cut to the terminal's width.

    Args:
        right: numbers of the columns that are aligned right.
    """
    everything = [header, *rows]
    widths = [max(len(row[i]) for row in everything) for i in range(len(header))]
    limit = width()
    lines = []
    for number, row in enumerate(everything):
        cells = [
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        ]
        line = cut("  ".join(cells).rstrip(), limit)
        lines.append(bold(line) if number == 0 else line)
    return "\n".join(lines)


def width() -> int:
    """Columns of the terminal; effectively unlimited in a pipe, where nothing should be cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def cut(line: str, limit: int) -> str:
    """`line`, shortened with an ellipsis if it is longer than `limit`."""
    return line if len(line) <= limit else line[: max(limit - 1, 0)] + "…"


def bold(text: str) -> str:
    """Bold on a terminal that wants colour; plain otherwise (NO_COLOR, pipes)."""
    plain = (
        not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    )
    return text if plain else f"\033[1m{text}\033[0m"


def count(value: float) -> str:
    """A number with three significant digits and a unit: 311k, 5.71M, 1.26G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            scaled = value / size
            return f"{scaled:.{max(0, 2 - int(scaled >= 10) - int(scaled >= 100))}f}{unit}"
    return f"{value:g}"
