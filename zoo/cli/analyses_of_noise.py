"""analyze noise and robustness: accuracy on damaged images, of models and of exported files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ._analysis_files import finish
from ._given import refuse_idle
from ._options import provider_option, say, trust_option
from ._references import other_weights
from .analyze import Request, analysis_options, steps


def _predictors(request: Request, provider: str, trust_code: bool) -> Iterator[tuple[str, Any]]:
    from ..catalog.references import kind_of
    from ..evaluation.predictor import Predictor
    from .predict import load_predictor

    if request.init is not None and provider != "cpu":
        raise click.UsageError("--provider is for exported files, --init for models; give one")
    seen: set[str] = set()
    for reference in request.models:
        if request.init is not None and kind_of(reference) == "file":
            raise click.UsageError(f"--init is for models; leave it out for {reference}")
        if request.init is None:
            given = {"keywords": request.keywords, "weights": request.weights}
            predictor = load_predictor(reference, provider, trust_code=trust_code, **given)
            say(other_weights(predictor.name, request.data))
        else:
            predictor = Predictor.from_model(request.load_one(reference))
        what = predictor.name
        if kind_of(reference) == "file":
            what = f"{what} ({reference.rpartition('.')[2]})"
        yield request.name(reference, what, seen), predictor


@click.command("noise")
@analysis_options()
@click.option("--eps", default=0.7, show_default=True, help="Amplitude, on normalised pixels.")
@click.option("--bands", type=click.IntRange(2), help="0 to π. Default: 11; with --fast 6.")
@click.option("--width", default=0.2, show_default=True, help="Half width of a band, radians.")
@provider_option()
@trust_option()
def noise_command(
    request: Request, eps: float, bands: int | None, width: float, provider: str, trust_code: bool
) -> None:
    """Accuracy under noise of one frequency band (How Do Vision Transformers Work?, fig. 2b), and
    on low-pass and high-pass images. Takes .onnx, .pt and .pt2 files too.
    """
    import numpy as np

    from ..analysis._hooks import ImageBatches
    from ..analysis.noise import NoiseSettings, noise_study, plot_noise
    from ..data.dataset import in_classes_of

    images = request.dataset(128, 1024)
    count = bands or (6 if request.fast else 11)
    frequencies = tuple(k / (count - 1) for k in range(count))
    settings = NoiseSettings(frequencies, eps, width, request.seed)
    results = []
    for name, predictor in _predictors(request, provider, trust_code):
        labelled = in_classes_of(images, predictor.labels)
        batches = list(ImageBatches(labelled, predictor.input, request.batch_size))
        pixels = np.concatenate([x.numpy() for x, _ in batches])
        targets = np.concatenate([y.numpy() for _, y in batches])
        with steps(request, 3 * count, f"noise: {name}") as on_step:
            found = noise_study(predictor.forward, pixels, targets, settings, name, on_step)
            results.append(found)
    finish(request, "noise", results, plot_noise, images)


@click.command("robustness")
@analysis_options()
@provider_option()
@trust_option()
def robustness_command(request: Request, provider: str, trust_code: bool) -> None:
    """Accuracy over 15 corruptions x 5 severities: the 75-row table, its mean, and mCE.

    --data cifar10-c:DIR, cifar100-c:DIR or imagenet-c:DIR reads the published sets. Other data are
    damaged here, by simple corruptions of the same names: good for comparing models with each
    other only. Takes .onnx, .pt and .pt2 files too.
    """
    from ..analysis.robustness import (
        ALEXNET_IMAGENET_C,
        Reference,
        corruption_robustness,
        plot_robustness,
    )
    from ..data.corruptions import KINDS as CORRUPTED
    from ..data.dataset import in_classes_of

    kind = request.data.partition(":")[0]
    published = kind in CORRUPTED
    if published:
        refuse_idle(("part", "seed", "on_unreadable"), f"--data {kind}, which is read as it is")
    clean = None if published else request.dataset(32, 2000)
    reference = Reference("AlexNet", ALEXNET_IMAGENET_C) if kind == "imagenet-c" else None
    what = "Corruptions of ours, see zoo.data.damage." if clean else "Published sets."
    results = []
    for name, predictor in _predictors(request, provider, trust_code):
        known = in_classes_of(clean, predictor.labels) if clean else None
        accuracy = _clean_accuracy(predictor, known) if known else None
        sets = _sets(request, predictor, known)
        with steps(request, 75, f"robustness: {name}") as on_step:
            results.append(
                corruption_robustness(
                    predictor.forward, sets, accuracy, reference, what, name, on_step
                )
            )
    finish(request, "robustness", results, plot_robustness, clean, corruptions=kind)


def _clean_accuracy(predictor: Any, images: Any) -> Any:
    import numpy as np

    from ..evaluation.evaluate import Accuracy

    correct = predictor.logits([image for image, _ in images]).argmax(-1) == images.targets
    return Accuracy(int(np.sum(correct)), len(images))


def _sets(request: Request, predictor: Any, clean: Any) -> Iterator[tuple[str, int, Any]]:
    from ..analysis._hooks import ImageBatches
    from ..data.corruptions import open_corruptions
    from ..data.dataset import in_classes_of

    if clean is None:
        count = request.images or (32 if request.fast else None)
        for corruption, severity, images in open_corruptions(request.data):
            kept = images.subset(range(min(count, len(images)))) if count else images
            kept = in_classes_of(kept, predictor.labels)
            batches = ImageBatches(kept, predictor.input, request.batch_size)
            yield corruption, severity, ((x.numpy(), y.numpy()) for x, y in batches)
        return
    from ..data.damage import damaged_sets

    for corruption, severity, images in damaged_sets(clean, predictor.input.size, request.seed):
        batches = ImageBatches(images, predictor.input, request.batch_size)
        yield corruption, severity, ((x.numpy(), y.numpy()) for x, y in batches)
