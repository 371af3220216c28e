"""Options and values that several verbs take."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import click


def provider_option(
    help: str = "Where an exported file runs.",
    providers: Sequence[str] = ("cpu", "cuda", "tensorrt"),
) -> Callable[[Any], Any]:
    """``--provider``: an execution provider, the CPU by default."""
    return click.option(
        "--provider", default="cpu", show_default=True, type=click.Choice(providers), help=help
    )


def json_or_text(text: str) -> Any:
    """The value of a ``KEY=VALUE`` argument: JSON where it is JSON, else the text itself.

    Lists become tuples, as constructors take them.
    """
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return tuple(value) if isinstance(value, list) else value
