"""Everything that waits for a GPU, in one command of less than eight minutes.

    python -m benchmarks.gpu [--out model_cards/measured] [--plan]

Each step writes one file, NAME-DEVICE.json, when it is done, and stops at its share of the time;
what it did not reach is listed in the file. Where onnxruntime has no CUDA beside a torch that has,
the steps that need only torch run. The steps are in `benchmarks.gpu_steps`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import ProviderError, ZooError
from zoo.files.json_text import to_json
from zoo.files.local import write_text

LIMIT_S = 480  # of all steps; what `make gpu` allows
GRACE_S = 20  # that a child process may take beyond its step's share
Found = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """Where a step works.

    Args:
        device: "cuda"; "cpu" in tests.
        exports: directories of exported models, by name.
        end: on the monotonic clock; nothing new is begun after it.
        say: told what is being done.
    """

    device: str
    exports: Path
    end: float
    say: Callable[[str], None] = lambda text: print(f"  {text}", file=sys.stderr, flush=True)

    @property
    def over(self) -> bool:
        """Whether the step's time is used up."""
        return time.monotonic() > self.end

    @property
    def left(self) -> float:
        """Seconds that a child process may take."""
        return max(1.0, self.end - time.monotonic() + GRACE_S)


@dataclass(frozen=True)
class Step:
    """One part of the measurement.

    Args:
        name: of its file, NAME-DEVICE.json; steps without a result have no file.
        needs: of "torch", "onnxruntime", "tensorrt": what must run on the GPU.
        seconds: its share of the time.
        measure: the function of `benchmarks.gpu_steps`.
    """

    name: str
    needs: str
    seconds: int
    measure: str
    writes: bool = True


STEPS = (
    Step("exports", "onnxruntime", 80, "export_all", writes=False),
    Step("parity-torch", "torch", 50, "torch_parity"),
    Step("attention", "torch", 60, "attention"),
    Step("training", "torch", 40, "training"),
    Step("parity-onnxruntime", "onnxruntime", 100, "onnx_parity"),
    Step("parity-tensorrt", "tensorrt", 45, "tensorrt_parity"),
    Step("tests", "onnxruntime", 75, "tests"),
)


def available() -> dict[str, str]:
    """What a step may need -> why it does not run on a GPU here, "" where it does."""
    import torch

    from export.runtime.doctor import probe_providers

    found = probe_providers()
    why = {
        name: "" if found[provider]["runs"] else str(found[provider]["note"])
        for name, provider in (("onnxruntime", "cuda"), ("tensorrt", "tensorrt"))
    }
    has = torch.cuda.is_available()
    return {"torch": "" if has else f"torch {torch.__version__} sees no CUDA device", **why}


def plan(missing: Mapping[str, str]) -> list[tuple[Step, str]]:
    """Every step, with why it will not run, or ""."""
    return [(step, missing[step.needs]) for step in STEPS]


def device_name() -> str:
    """Of the GPU, as file names have it."""
    import torch

    from export.runtime.attestation import device

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else device()["device"]
    return name.replace(" ", "_").replace("/", "_")


def run_step(step: Step, device: str, exports: Path) -> Found:
    """The result of a step; an error of ours is its result, not the end of the others."""
    from zoo.files.provenance import provenance

    from . import gpu_steps

    started = time.monotonic()
    context = Context(device, exports, started + step.seconds)
    try:
        found: Found = getattr(gpu_steps, step.measure)(context)
    except (ZooError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        found = {"passed": False, "error": f"{type(error).__name__}: {error}"[:500]}
    how = {**provenance(0), "command": "python -m benchmarks.gpu"}
    return {**found, "seconds": round(time.monotonic() - started, 1), **how}


def measure(out: Path, missing: Mapping[str, str], device: str = "cuda") -> bool:
    """Run the plan and write its files. Returns: whether every step that ran passed.

    Raises: ProviderError if nothing runs on a GPU.
    """
    steps = plan(missing)
    if all(why for _, why in steps):
        raise ProviderError(f"nothing to measure here: {missing['torch']}; run it on a GPU")
    passed, name = True, device_name()
    with tempfile.TemporaryDirectory() as folder:
        for step, why in steps:
            print(f"{step.name}: {f'not run, {why}' if why else f'up to {step.seconds} s'}")
            if why:
                continue
            found = run_step(step, device, Path(folder))
            passed &= found.get("passed", True)
            if step.writes:
                path = out / f"{step.name}-{name}.json"
                write_text(path, to_json({"device": name, **found}, indent=1) + "\n")
                print(f"{'' if found.get('passed', True) else 'FAILED, '}wrote {path}")
    return passed


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns: its exit status, 7 if something failed or nothing could run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("model_cards/measured"))
    parser.add_argument("--plan", action="store_true", help="only say what would run")
    options = parser.parse_args(arguments)
    missing = available()
    if options.plan:
        for step, why in plan(missing):
            print(f"{step.name:20} {step.seconds:4} s  {f'not run: {why}' if why else 'runs'}")
        return 0
    try:
        return 0 if measure(options.out, missing) else ProviderError.exit_code
    except ProviderError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
