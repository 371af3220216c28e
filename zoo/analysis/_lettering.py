"""Names of any script in figures: a font that has their letters, or numbers in their place.

Whoever trains on their own folders names classes in their own language; matplotlib's own font has
Latin, Greek, Cyrillic and Arabic letters, and draws a box, with a warning, for the others.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


OWN = "DejaVu Sans"  # comes with matplotlib
BOX = "\N{WHITE SQUARE}"
_LONGEST = 28  # letters of a name beside a matrix
_UNFIT = ("Last Resort", "cm", "STIXNon", "STIXSize")  # boxes, and fonts for formulas alone


def class_names(labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands for the classes in a figure, and the font families to draw it in.

    Returns: the names, long ones shortened; or "0", "1", ... where a name cannot be drawn.
    """
    families = families_for("".join(labels))
    if families is None:
        return [str(number) for number in range(len(labels))], [OWN]
    shown = [label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…" for label in labels]
    return shown, families


def families_for(text: str) -> list[str] | None:
    """Families that have every letter of the text between them, ours first; None if some letter
    is in no font of this machine, or needs to be joined to its neighbours and would not be.
    """
    missing = {letter for letter in text if not letter.isspace()} - _letters(_own_path())
    if not missing and not _must_be_joined(text):
        return [OWN]
    if _must_be_joined(text) and not _joins():
        return None
    families = [OWN]
    for family, path in _installed():
        if not missing:
            break
        found = missing & _letters(path)
        if found:
            families.append(family)
            missing -= found
    return None if missing else families


def fit_letters(figure: Figure) -> None:
    """Give titles, labels and legends of a figure a font that has their letters; a letter that is
    in none becomes a box. What looks like a formula is not one: it is somebody's name.
    """
    from matplotlib.text import Text

    ours = set(map(chr, range(128)))
    for text in figure.findobj(Text):
        content = text.get_text()
        if "$" in content and "\\mathdefault" not in content:
            text.set_parse_math(False)
        if set(content) <= ours:
            continue
        families = families_for(content)
        if families is None:
            text.set_text("".join(c if families_for(c) else BOX for c in content))
            families = families_for(text.get_text()) or [OWN]
        if families != [OWN]:
            text.set_fontfamily(families)


def _must_be_joined(text: str) -> bool:
    """Whether a script is written right to left, or with marks that change their place."""
    return any(
        unicodedata.bidirectional(c) in ("R", "AL") or unicodedata.category(c) == "Mc" for c in text
    )


def _joins() -> bool:
    """Whether this matplotlib shapes text, as it does from 3.11 on."""
    from matplotlib import ft2font

    return hasattr(ft2font, "__libraqm_version__")


@functools.cache
def _own_path() -> str:
    from matplotlib import font_manager

    return str(font_manager.findfont(OWN))


@functools.cache
def _installed() -> tuple[tuple[str, str], ...]:
    """(family, file) of upright fonts of ordinary weight, in the order of their names."""
    from matplotlib import font_manager

    found = {
        entry.name: entry.fname
        for entry in font_manager.fontManager.ttflist
        if entry.style == "normal" and entry.weight in (400, "normal", "regular")
    }
    return tuple((n, p) for n, p in sorted(found.items()) if not n.startswith(_UNFIT))


@functools.cache
def _letters(path: str) -> frozenset[str]:
    """What a font can draw: nothing if it has pictures of fixed sizes only, or cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()
