"""What starting the command costs: whole processes, against the bare interpreter."""

from __future__ import annotations

from typing import Any

from export.speed.timing import Run, Timing, measure_rounds
from zoo.files.processes import run_python

from .attention import Settings
from .subjects import ROOT
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
