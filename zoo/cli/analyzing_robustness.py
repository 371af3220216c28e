"""analyze robustness, noise: accuracy on damaged images, of models and of exported files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ._analysis import Request, analysis_options, finish, load_model, steps
from ._options import provider_option


def _predictors(request: Request, provider: str) -> Iterator[tuple[str, Any]]:
    from ..prediction import Predictor
    from ..references import is_artefact
    from .predicting import load_predictor

    seen: set[str] = set()
    for reference in request.models:
        if is_artefact(reference) or request.init is None:
            predictor = load_predictor(reference, provider)
        else:
            predictor = Predictor.from_model(load_model(reference, request.init))
        what = predictor.name
        if is_artefact(reference):
            what = f"{what} ({reference.rpartition('.')[2]})"
        yield request.name(reference, what, seen), predictor


@click.command("noise")
@analysis_options()
@click.option("--eps", default=0.7, show_default=True, help="Amplitude, on normalised pixels.")
@click.option("--bands", default=11, show_default=True, type=click.IntRange(2), help="0 to π.")
@click.option("--width", default=0.2, show_default=True, help="Half width of a band, radians.")
@provider_option()
def noise_command(request: Request, eps: float, bands: int, width: float, provider: str) -> None:
    """Accuracy under noise of one frequency band (How Do Vision Transformers Work?, fig. 2b), and
    on low-pass and high-pass images. Takes .onnx, .pt and .pt2 files too.
    """
    import numpy as np

    from ..analysis._batches import ImageBatches
    from ..analysis.noise import NoiseSettings, noise_study
    from ..analysis.plots.robustness import plot_noise

    images = request.dataset(128, 1024)
    count = min(bands, 6) if request.fast else bands
    frequencies = tuple(k / (count - 1) for k in range(count))
    settings = NoiseSettings(frequencies, eps, width, request.seed)
    results = []
    for name, predictor in _predictors(request, provider):
        batches = list(ImageBatches(images, predictor.input, request.batch_size))
        pixels = np.concatenate([x.numpy() for x, _ in batches])
        targets = np.concatenate([y.numpy() for _, y in batches])
        with steps(request, 3 * count, f"noise: {name}") as on_step:
            found = noise_study(predictor.forward, pixels, targets, settings, name, on_step)
            results.append(found)
    finish(request, "noise", results, plot_noise, images)


@click.command("robustness")
@analysis_options()
@provider_option()
def robustness_command(request: Request, provider: str) -> None:
    """Accuracy over 15 corruptions x 5 severities: the 75-row table, its mean, and mCE.

    --data cifar10-c:DIR, cifar100-c:DIR or imagenet-c:DIR reads the published sets. Other data are
    damaged here, by simple corruptions of the same names: good for comparing models with each
    other only. Takes .onnx, .pt and .pt2 files too.
    """
    from ..analysis.plots.robustness import plot_robustness
    from ..analysis.robustness import ALEXNET_IMAGENET_C, Reference, corruption_robustness

    kind = request.data.partition(":")[0]
    clean = None if kind.endswith("-c") else request.dataset(32, 2000)
    reference = Reference("AlexNet", ALEXNET_IMAGENET_C) if kind == "imagenet-c" else None
    what = "Corruptions of ours, see zoo.analysis.corruptions." if clean else "Published sets."
    results = []
    for name, predictor in _predictors(request, provider):
        accuracy = _clean_accuracy(predictor, clean) if clean else None
        sets = _sets(request, predictor, clean)
        with steps(request, 75, f"robustness: {name}") as on_step:
            results.append(
                corruption_robustness(
                    predictor.forward, sets, accuracy, reference, what, name, on_step
                )
            )
    finish(request, "robustness", results, plot_robustness, clean, corruptions=kind)


def _clean_accuracy(predictor: Any, images: Any) -> Any:
    import numpy as np

    from ..evaluation import Accuracy

    correct = predictor.logits([image for image, _ in images]).argmax(-1) == images.targets
    return Accuracy(int(np.sum(correct)), len(images))


def _sets(request: Request, predictor: Any, clean: Any) -> Iterator[tuple[str, int, Any]]:
    from ..analysis._batches import ImageBatches
    from ..datasets import open_corruptions

    if clean is None:
        count = request.images or (32 if request.fast else None)
        for corruption, severity, images in open_corruptions(request.data):
            kept = images.subset(range(min(count, len(images)))) if count else images
            batches = ImageBatches(kept, predictor.input, request.batch_size)
            yield corruption, severity, ((x.numpy(), y.numpy()) for x, y in batches)
        return
    from ..analysis.corruptions import CORRUPTIONS

    sized = [_resized(image, predictor.input.size) for image, _ in clean]
    for corruption in CORRUPTIONS:
        for severity in range(1, 6):
            images = _Corrupted(sized, clean.targets, corruption, severity, request.seed)
            batches = ImageBatches(images, predictor.input, request.batch_size)
            yield corruption, severity, ((x.numpy(), y.numpy()) for x, y in batches)


def _resized(image: Any, size: tuple[int, int]) -> Any:
    """The image at the model's resolution, where corruptions have their meaning."""
    import numpy as np
    from PIL import Image

    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


class _Corrupted:
    """Images damaged when they are read; every image has noise of its own."""

    def __init__(
        self, images: list[Any], targets: Any, corruption: str, severity: int, seed: int
    ) -> None:
        self.images, self.targets = images, targets
        self.corruption, self.severity, self.seed = corruption, severity, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from ..analysis.corruptions import corrupt

        seed = self.seed * 1_000_003 + index
        image = corrupt(self.images[index], self.corruption, self.severity, seed)
        return image, int(self.targets[index])
