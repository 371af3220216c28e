"""One model, several ways to run it: in one process."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.catalog.references import kind_of
from zoo.catalog.weights_records import InputSpec
from zoo.errors import ConfigError, NoWeightsError, ZooError
from zoo.factory.description import PretrainedCfg

from .forms import LatencySettings, all_forms, first_line
from .timing import Ratio, Run, Say, Timing, limited_threads, measure_rounds, ratio_of

if TYPE_CHECKING:
    from torch import nn


Array = np.ndarray[Any, Any]
RANDOM = "random (seed 0): the time does not depend on them"


@dataclass(frozen=True)
class Candidate:
    """One way to run the model.

    Args:
        by: "eager", "torch.compile", "TorchScript", "ONNX Runtime", "OpenVINO", or the name
            of a file.
        timing: one sample per round.
        of_eager: its time as a share of eager's; of the first candidate's where eager is missing.
        difference: largest absolute difference of its logits from the first candidate's.
    """

    by: str
    timing: Timing
    of_eager: Ratio
    difference: float

    def to_dict(self, batch: int) -> dict[str, Any]:
        """JSON values."""
        return {
            "by": self.by,
            **self.timing.to_dict(),
            "images_per_s": 1000 * batch / self.timing.median_ms,
            "of_eager": self.of_eager.to_dict(),
            "max_abs_difference": self.difference,
        }


@dataclass(frozen=True)
class ModelLatency:
    """What `bench_model` measured.

    Args:
        name, weights: of the model.
        shape: (B, C, H, W) of the input.
        settings: as asked for.
        candidates: in the order of the table.
        skipped: candidate -> why it is missing.
    """

    name: str
    weights: str
    shape: tuple[int, ...]
    settings: LatencySettings
    candidates: tuple[Candidate, ...]
    skipped: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "name": self.name,
            "weights": self.weights,
            "shape": list(self.shape),
            "threads": self.settings.threads,
            "provider": self.settings.provider,
            "candidates": [c.to_dict(self.shape[0]) for c in self.candidates],
            "skipped": self.skipped,
        }


def bench_model(
    reference: str,
    settings: LatencySettings | None = None,
    say: Say = lambda _: None,
    keywords: Mapping[str, Any] | None = None,
) -> ModelLatency:
    """Latency and throughput of a model in every form that can be had here.

    Args:
        reference: any model reference, or a single exported file (which then runs alone).
        say: told what is being prepared.
        keywords: constructor keywords, of a model.
    Raises: what loading and opening raise; ConfigError for a file that does not say its input size
        when `settings.size` does not either, and for keywords of a file.
    """
    settings = settings or LatencySettings()
    if keywords and kind_of(reference) == "file":
        raise ConfigError(
            f"{reference!r} is finished: keywords (--set {', '.join(keywords)}) are for models"
        )
    with limited_threads(settings.threads), tempfile.TemporaryDirectory() as folder:
        if kind_of(reference) == "file":
            runs, cfg, weights = _open_artefact(reference, settings)
            skipped: dict[str, str] = {}
        else:
            model, weights = load_model(reference, keywords or {})
            cfg = _sized(model, settings)
            runs, skipped = all_forms(model, cfg, settings, Path(folder), say)
        shape = (settings.batch, cfg.input.in_chans, *cfg.input.size)
        generator = np.random.Generator(np.random.PCG64(0))
        batch = generator.standard_normal(shape, dtype=np.float32)
        answers = _first_answers(runs, batch, skipped)
        say(f"measuring {', '.join(answers)}")
        timed: dict[str, Run] = {name: _bound(runs[name], batch) for name in answers}
        times = measure_rounds(timed, settings.rounds, limit_s=settings.limit_s)
    first = next(iter(times))
    found = tuple(
        Candidate(
            name,
            timing,
            ratio_of(timing, times[first]),
            float(np.abs(answers[name] - answers[first]).max()),
        )
        for name, timing in times.items()
    )
    return ModelLatency(cfg.name, weights, shape, settings, found, skipped)


def load_model(reference: str, keywords: Mapping[str, Any]) -> tuple[nn.Module, str]:
    """A model to time and what its weights are: those of a directory or repository; else random."""
    import zoo
    from zoo.factory.create import create_random

    if kind_of(reference) in ("name", "timm"):
        return create_random(reference, 0, **keywords), RANDOM
    try:
        return zoo.create_model(reference, pretrained=True, **keywords), "the model's own"
    except NoWeightsError:
        return create_random(reference, 0, **keywords), RANDOM


def _sized(model: nn.Module, settings: LatencySettings) -> PretrainedCfg:
    from ..formats.metadata import describe

    cfg = describe(model)
    if settings.size is None:
        return cfg
    return replace(cfg, input=replace(cfg.input, size=settings.size))


def _bound(run: Any, batch: Array) -> Run:
    return lambda: run(batch)


def _first_answers(runs: dict[str, Any], batch: Array, skipped: dict[str, str]) -> dict[str, Array]:
    """Logits of every candidate; one that cannot run here is skipped, unless it is the first."""
    answers: dict[str, Array] = {}
    for name, run in runs.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler's deprecation notes
                answers[name] = np.asarray(run(batch))
        except (RuntimeError, ZooError) as error:
            if not answers:
                raise
            skipped[name] = f"it does not run: {first_line(error)}"
    return answers


def _open_artefact(
    reference: str, settings: LatencySettings
) -> tuple[dict[str, Any], PretrainedCfg, str]:
    from ..runtime.opening import open_file, open_onnx

    path = Path(reference)
    if path.suffix == ".onnx":
        session = open_onnx(
            path, settings.provider, threads=settings.threads, trust_code=settings.trust_code
        )
        run, metadata = session.run, session.metadata
    else:
        run, metadata = open_file(path, settings.provider, settings.trust_code)
    stated = metadata.get("input")
    if isinstance(stated, dict):
        spec = InputSpec.from_dict(stated)
    elif settings.size is not None:
        spec = InputSpec(size=settings.size)
    else:
        raise ConfigError(
            f"{path.name} does not say what size its input has; pass --size HEIGHTxWIDTH",
            code="foreign_file",
        )
    spec = replace(spec, size=settings.size or spec.size)
    cfg = PretrainedCfg(architecture=path.name, architecture_version=0, num_classes=0, input=spec)
    return {path.name: run}, cfg, "in the file"
