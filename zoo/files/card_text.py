"""CARD.md: what only the owner of weights can say of them, a section each.

A training run drafts it with prompts in angle brackets; the owner completes it; a bundle puts it
into the model card. It is the one file of a run that is meant to be edited: no manifest lists it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import ConfigError, suggestion
from .local import read_regular_file

FILE = "CARD.md"
DATA, USE, LIMITS, CONTACT, LICENCE = (
    "Data", "Intended use", "Limits", "Contact", "Licence of the data",
)  # fmt: skip
SECTIONS = (DATA, USE, LIMITS, CONTACT, LICENCE)
_PROMPTS = {
    DATA: "Where the {images:,} images come from, who made them, and who sorted them into classes.",
    USE: "What the model is for, and who may rely on its answers.",
    LIMITS: "Where it fails: other cameras, light or backgrounds; what belongs to none of its "
    "classes.",
    CONTACT: "Who answers questions: a name, a page or an address.",
    LICENCE: "The terms of the images, such as CC BY 4.0, or that they are not given out.",
}
_HEADING = re.compile(r"^## +(.+?) *$", re.MULTILINE)
_BRACKETS = re.compile(r"<(?!https?://[^<>\s]+>|[^<>\s@]+@[^<>\s@]+>)[^<>]+>")
_LONGEST = 20_000  # characters
_HEAD = (
    "What only you know of these weights. Replace what stands in angle brackets, or remove a "
    "section;\n`convattn bundle` puts the rest into the model card."
)


def draft(images: int) -> str:
    """CARD.md as a training run leaves it. Args: images: that it was trained and measured on."""
    parts = [f"## {title}\n\n<{_PROMPTS[title].format(images=images)}>" for title in SECTIONS]
    return "\n\n".join([_HEAD, *parts]) + "\n"


def read_card_text(path: str | Path) -> Mapping[str, str]:
    """Section -> text of a CARD.md, without empty ones. What stands above the first is not read.

    Raises: ConfigError (code "card_text") for angle brackets that are left over, with their line,
        for a section that no card has, and for one that occurs twice, for a text without sections
        or in another encoding than UTF-8; NotFoundError, ResourceError.
    """
    name, text = str(path), _read(path)
    if len(text) > _LONGEST:
        raise ConfigError(
            f"{name!r} has {len(text):,} characters, a card takes {_LONGEST:,}; shorten it",
            code="card_text",
        )
    left = _BRACKETS.search(text)
    if left is not None:
        line = text.count("\n", 0, left.start()) + 1
        shown = " ".join(left[0].split())
        raise ConfigError(
            f"{name!r}, line {line}: {shown[:60]}{'...' if len(shown) > 60 else ''} is a draft's "
            "prompt; write what is asked for, or remove the section",
            code="card_text",
        )
    pieces = _HEADING.split(text)
    if len(pieces) == 1 and text.strip() not in ("", _HEAD):
        raise ConfigError(
            f"{name!r} has no sections, so nothing of it would be on the card; begin them with "
            f"{', '.join(f'## {title}' for title in SECTIONS)}",
            code="card_text",
        )
    found: dict[str, str] = {}
    for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
        if title in found:
            text = f"{name!r}: the section {title!r} occurs twice; join them"
            raise ConfigError(text, code="card_text")
        if title not in SECTIONS:
            raise ConfigError(
                f"{name!r}: {title[:60]!r} is no section of a card, which has "
                f"{', '.join(SECTIONS)}{suggestion(title, SECTIONS)}",
                code="card_text",
            )
        found[title] = body.strip()
    return {title: body for title, body in found.items() if body}


def _read(path: str | Path) -> str:
    """The text, whichever editor wrote it: with or without a byte order mark, any line ends."""
    try:
        text = read_regular_file(path, "card text").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(
            f"{str(path)!r} is not UTF-8; save it as that", code="card_text"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
