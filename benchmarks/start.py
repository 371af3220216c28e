"""What starting the command costs: whole processes, against the bare interpreter.

python -m benchmarks.start [--out model_cards/measured]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from export.speed.timing import Run, Timing, measure_rounds
from zoo.cli._console import table
from zoo.cli.bench import json_option, measured, out_option, rounds_option, say, write_result
from zoo.files.json_text import to_json
from zoo.files.processes import run_python

from .attention import Settings
from .subjects import ROOT
from .tables import show_rows
from .targets import target

BARE = "bare interpreter"
COMMANDS: dict[str, list[str]] = {
    BARE: ["-c", "pass"],
    "convattn list": ["-m", "zoo", "list"],
    "convattn --help": ["-m", "zoo", "--help"],
    "import zoo": ["-c", "import zoo"],
}
HEAVY: dict[str, list[str]] = {
    "import torch": ["-c", "import torch"],
    "import timm": ["-c", "import timm"],
}


def measure_start(settings: Settings) -> dict[str, Any]:
    """Rows for `list` and `--help`, and the times of all commands and imports."""
    settings.say("starting processes")
    times = measure_rounds(_runs(COMMANDS), settings.rounds, limit_s=2 * settings.seconds)
    rows = [_row(f"start-{verb}", times[f"convattn {option}"], times[BARE])
            for verb, option in (("list", "list"), ("help", "--help"))]  # fmt: skip
    settings.say("starting processes that import torch and timm")
    heavy = measure_rounds(_runs(HEAVY), 5, warmup=1)
    table = {name: timing.to_dict() for name, timing in {**times, **heavy}.items()}
    return {"rows": rows, "processes": table}


def _row(name: str, ours: Timing, bare: Timing) -> dict[str, Any]:
    """Seconds above the bare interpreter: the median over rounds of the difference."""
    import numpy as np

    extra = (np.asarray(ours.samples_ms) - np.asarray(bare.samples_ms)) / 1000
    generator = np.random.Generator(np.random.PCG64(0))
    picks = generator.integers(0, len(extra), (2000, len(extra)))
    interval = np.percentile(np.median(extra[picks], axis=1), (2.5, 97.5))
    return target(name).row(
        float(np.median(extra)),
        [float(v) for v in interval],
        ours=ours.to_dict(),
        against=bare.to_dict(),
    )


def _runs(commands: dict[str, list[str]]) -> dict[str, Run]:
    def start(arguments: list[str]) -> Run:
        return lambda: run_python(*arguments, cwd=ROOT, capture_output=True, check=True)

    return {name: start(arguments) for name, arguments in commands.items()}


@click.command()
@rounds_option(25)
@out_option
@json_option
def main(rounds: int, out: Path | None, as_json: bool) -> None:
    """Start-up of the command as a whole process, against the bare interpreter."""
    found = measured(measure_start(Settings(rounds=rounds, say=say)))
    write_result(out, "start", found)
    if as_json:
        click.echo(to_json(found, indent=2))
        return
    rows = [
        (n, f"{t['median_ms']:.0f}", f"{t['min_ms']:.0f}") for n, t in found["processes"].items()
    ]
    click.echo(table(("process", "median ms", "min ms"), rows, right=(1, 2)))
    show_rows(found["rows"])


if __name__ == "__main__":
    main()
