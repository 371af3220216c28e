"""A line on stderr that says what is being done: rewritten on a terminal, else one per stage."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from ..files.stages import stages_told_to
from ._console import cut


def quiet_option() -> Callable[[Any], Any]:
    """``-q``: no progress."""
    return click.option("-q", "--quiet", is_flag=True, help="Do not say what is being done.")


@contextmanager
def progress(quiet: bool) -> Iterator[None]:
    """Stages inside appear on stderr, with the seconds since the start; with `quiet` nothing does.

    On a terminal one line is rewritten and wiped at the end, also where an error ends the work.
    """
    if quiet:
        with stages_told_to(None):
            yield
        return
    start, terminal = time.monotonic(), sys.stderr.isatty()

    def show(of: str, what: str) -> None:
        line = f"[{time.monotonic() - start:5.1f} s] {of}: {what}"
        if terminal:
            click.echo(f"\r\033[K{cut(line, _columns() - 1)}", err=True, nl=False)
        else:
            click.echo(line, err=True)

    try:
        with stages_told_to(show):
            yield
    finally:
        if terminal:
            click.echo("\r\033[K", err=True, nl=False)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80
