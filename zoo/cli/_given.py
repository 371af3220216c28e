"""Which options the command line gives, and the refusal of those that would have no effect."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

import click


def given() -> tuple[click.Parameter, ...]:
    """The parameters of the command that runs which the command line gives."""
    context = click.get_current_context()
    command_line = click.core.ParameterSource.COMMANDLINE
    return tuple(
        parameter
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "") is command_line
    )


def given_options(*names: str) -> list[str]:
    """Of these parameters those that the command line gives, as users spell them. A value that
    equals the default is given all the same.
    """
    return [_label(parameter) for parameter in given() if parameter.name in names]


def refuse_idle(names: Collection[str], beside: str) -> None:
    """Raise click.UsageError for given parameters that would be dropped in silence.

    Args: names: of the parameters without effect; beside: what makes them so: "--sweep".
    """
    idle = given_options(*names)
    if idle:
        raise click.UsageError(
            f"{', '.join(idle)} would have no effect with {beside}; leave out one or the other"
        )


def refuse_empty(args: Sequence[str]) -> None:
    """Raise click.UsageError for an empty word of a command line, such as the value of a variable
    that is not set: `--out ""` would be the current folder.
    """
    for before, word in itertools.pairwise(["", *args]):
        option, separator, value = word.partition("=")
        if word and not (option.startswith("--") and separator and not value):
            continue
        what = option or (before if before.startswith("-") else "an argument")
        raise click.UsageError(
            f"{what} is empty; give it a value, or leave it out (is a variable of the shell not "
            "set?)"
        )


def _label(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return parameter.human_readable_name.upper()
    return "/".join([parameter.opts[0], *parameter.secondary_opts])
