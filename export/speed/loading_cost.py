"""What it costs to create a model and load its weights, and how much of it is verification.

Every load computes the SHA-256 of the bytes it then uses. This measures the steps one by one on a
warm page cache, beside `timm.create_model` where timm has the architecture.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog.references import kind_of
from zoo.errors import ConfigError
from zoo.factory.config_json import build_config
from zoo.files.listed import read_listed
from zoo.files.local import sha256_bytes
from zoo.weights.safetensors_file import read_tensors, weights_bytes

from .timing import Ratio, Run, Say, Timing, limited_threads, measure_rounds, ratio_of

if TYPE_CHECKING:
    from torch import nn


TOTAL, DIGEST, READ, PARSE = "create + verify + load", "SHA-256 pass", "read", "parse"
RANDOM, TIMM = "create, random weights", "timm.create_model"


@dataclass(frozen=True)
class LoadingCost:
    """What `bench_load` measured.

    Args:
        name, size_bytes: of the weights.
        threads: of torch.
        timings: step -> its times. TOTAL is the whole load as a user has it, READ, DIGEST and PARSE
            are parts of it; RANDOM and TIMM, if there, create the model without weights.
        skipped: step -> why it is missing.
    """

    name: str
    size_bytes: int
    threads: int
    timings: dict[str, Timing]
    skipped: dict[str, str]

    @property
    def of_timm(self) -> Ratio | None:
        """Our create + verify + load as a share of timm's create_model with random weights."""
        peer = self.timings.get(TIMM)
        return ratio_of(self.timings[TOTAL], peer) if peer else None

    @property
    def without_digest(self) -> Timing:
        """The whole load less one pass of SHA-256 in the same round."""
        rounds = zip(self.timings[TOTAL].samples_ms, self.timings[DIGEST].samples_ms, strict=True)
        return Timing(tuple(max(total - digest, 1e-6) for total, digest in rounds))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "name": self.name,
            "size_bytes": self.size_bytes,
            "threads": self.threads,
            "steps": {step: timing.to_dict() for step, timing in self.timings.items()},
            "without_digest": self.without_digest.to_dict(),
            "sha256_share": ratio_of(self.timings[DIGEST], self.timings[TOTAL]).to_dict(),
            "of_timm": self.of_timm.to_dict() if self.of_timm else None,
            "skipped": self.skipped,
        }


def bench_load(
    reference: str = "convit_base", rounds: int = 10, threads: int = 1, say: Say = lambda _: None
) -> LoadingCost:
    """Time creating a model with verified weights, step by step.

    Args:
        reference: a directory with config.json and model.safetensors, or an architecture, whose
            random weights are then written to a temporary directory first.
    Raises: ConfigError for a reference that is neither; what loading raises.
    """
    with tempfile.TemporaryDirectory() as folder, limited_threads(threads):
        kind = kind_of(reference)
        if kind == "name":
            say(f"writing random weights of {reference}")
            directory = Path(folder)
            _write(reference, directory)
        elif kind == "directory" and Path(reference).is_dir():
            directory = Path(reference)
        else:
            raise ConfigError(
                f"bench load takes an architecture or a model directory; got {reference!r}"
            )
        say("measuring")
        steps, name, skipped = _steps(directory)
        size = (directory / "model.safetensors").stat().st_size
        timings = measure_rounds(steps, rounds, warmup=1)
    return LoadingCost(name, size, threads, timings, skipped)


def _write(reference: str, directory: Path) -> None:
    from zoo.factory.create import create_random

    model = create_random(reference, 0)
    weights = weights_bytes(model)
    config = build_config(model, sha256_bytes(weights))
    (directory / "model.safetensors").write_bytes(weights)
    (directory / "config.json").write_text(json.dumps(config))


def _steps(directory: Path) -> tuple[dict[str, Run], str, dict[str, str]]:
    import zoo

    file = directory / "model.safetensors"
    model = zoo.create_model(str(directory), pretrained=True)
    cfg: Any = model.pretrained_cfg
    data = read_listed(file, "weights file")
    steps: dict[str, Run] = {
        TOTAL: lambda: zoo.create_model(str(directory), pretrained=True),
        READ: lambda: read_listed(file, "weights file"),
        DIGEST: lambda: sha256_bytes(data),
        PARSE: lambda: read_tensors(data, file.name),
        RANDOM: lambda: zoo.create_model(cfg.architecture, **cfg.model_args),
    }
    name = str(cfg.architecture)
    peer = _timm_peer(name, model)
    if isinstance(peer, str):
        return steps, name, {TIMM: peer}
    return {**steps, TIMM: peer}, name, {}


def _timm_peer(name: str, model: nn.Module) -> Run | str:
    """timm's own constructor of the same architecture, or why there is none."""
    try:
        import timm
    except ImportError:
        return "timm is not installed"
    name = name.removeprefix("timm:")
    if not timm.is_model(name):
        return f"timm {timm.__version__} has no {name}"
    classes = getattr(model, "num_classes", 1000)
    return lambda: timm.create_model(name, num_classes=classes)
