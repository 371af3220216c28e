"""Plain tables that behave in a pipe and in a narrow terminal. Standard library only."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from ._given import refuse_empty


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


class OutputClosed(Exception):
    """Nobody reads on what is printed: as BrokenPipeError, of which click makes exit status 1."""


@contextmanager
def _closed_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosed from error


class LazyGroup(click.Group):
    """Commands by name, from modules of this package.

    Args:
        verbs: command -> (module, help line); the line stands there so that --help imports no
            module. The module has a function `COMMAND_command`.
    """

    def __init__(self, *args: Any, verbs: Mapping[str, tuple[str, str]], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.verbs = verbs

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        with _closed_output():
            return super().make_context(*args, **settings)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        refuse_empty(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _closed_output():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.verbs)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.verbs:
            return None
        module = importlib.import_module(f".{self.verbs[name][0]}", __package__)
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in self.verbs.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.verbs, 1)
            if near:
                error.message += f" Did you mean {near[0]!r}?"
            raise


@contextmanager
def progress(total: int, what: str, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A function that advances the bar by a number of steps.

    Args:
        what: is being done, the text before the bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=quiet or not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
