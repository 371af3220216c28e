"""The trainings of a build-up: every plan of stages trained once, and measured.

Park & Kim, *How Do Vision Transformers Work?*, arXiv:2202.06709; `zoo.analysis.buildup` compares
what comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis._hooks import ImageBatches
from ..analysis.buildup import Plan, PlanMeasurement
from ..analysis.fourier import fourier_analysis
from ..analysis.noise import noise_study
from ..data.dataset import ImageDataset
from ..evaluation.evaluate import Accuracy
from ..evaluation.predictor import Predictor
from ..factory.create import create_model
from .job import Job
from .run import DOCUMENT, METRICS, is_finished, train_model


def measure_plan(
    job: Job,
    plan: Plan,
    folder: Path,
    images: ImageDataset,
    batch_size: int,
    say: Callable[[str], None],
) -> PlanMeasurement:
    """Train the job's model with these stages, unless that was done, and measure it on `images`.

    Args: folder: where the runs of all plans lie; say: told what is trained.
    Raises: ConfigError for a folder with runs of other settings.
    """
    run = folder / "-".join(plan)
    metrics = _trained(replace(job, config={**job.config, "stages": tuple(plan)}), run, say)
    network = create_model(str(run), pretrained=True).eval()
    batches = ImageBatches(images, network.pretrained_cfg.input, batch_size)
    pixels = np.concatenate([x.numpy() for x, _ in batches])
    noise = noise_study(Predictor.from_model(network).forward, pixels, images.targets)
    spectra = fourier_analysis(network, batches).units

    def accuracy(part: str) -> Any:
        found = metrics[part]
        return None if found is None else Accuracy(found["correct"], found["total"])

    return PlanMeasurement(
        sum(parameter.numel() for parameter in network.parameters()),
        accuracy("validation"),
        accuracy("test"),
        sum(band.accuracy.percent for band in noise.noise) / len(noise.noise),
        spectra[-1].high_frequency.mean,
        metrics["seconds"],
    )


def _trained(job: Job, run: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """metrics.json of the run; trained now unless it is there."""
    if not is_finished(run, job):
        say(f"training {' '.join(job.config['stages'])}")
        train_model(job, run, resume=True)
    return dict(DOCUMENT.read(run / METRICS))
