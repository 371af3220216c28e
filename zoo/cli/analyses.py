"""analyze fourier, variance, lesion, specificity, filters: over depth, layer by layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._options import provider_option, trust_option
from .analyze import Request, analysis_options, finish, steps, training_batches

if TYPE_CHECKING:
    from ..analysis.buildup import Plan, PlanMeasurement


def _over_models(
    request: Request, verb: str, fast: int, usual: int, study: Callable[..., Any], plot: Any
) -> None:
    images = request.dataset(fast, usual)
    results = []
    for name, model in request.load():
        with steps(request, len(images), f"{verb}: {name}") as on_step:
            batches = request.batches(images, model)
            results.append(study(model, batches, name=name, on_step=on_step))
    finish(request, verb, results, plot, images)


@click.command("fourier")
@analysis_options()
def fourier_command(request: Request) -> None:
    """Relative log amplitudes of feature maps over depth (How Do Vision Transformers Work?, fig.
    2a): does a block add high frequencies, or take them away?
    """
    from ..analysis.fourier import fourier_analysis, plot_fourier

    _over_models(request, "fourier", 64, 512, fourier_analysis, plot_fourier)


@click.command("variance")
@analysis_options()
def variance_command(request: Request) -> None:
    """Variance of feature maps over positions, over depth (How Do Vision Transformers Work?)."""
    from ..analysis.variance import feature_variance, plot_variance

    _over_models(request, "variance", 64, 512, feature_variance, plot_variance)


@click.command("specificity")
@analysis_options()
def specificity_command(request: Request) -> None:
    """How much attention and feature maps vary between images, and how much between places."""
    from ..analysis.specificity import plot_specificity, specificity_study

    _over_models(request, "specificity", 64, 512, specificity_study, plot_specificity)


@click.command("lesion")
@analysis_options()
def lesion_command(request: Request) -> None:
    """Accuracy lost when each unit is taken out of the trained model."""
    from ..analysis.lesion import count_lesions, lesion_study, plot_lesions

    images = request.dataset(200)
    results = []
    for name, model in request.load():
        with steps(request, count_lesions(model), f"lesions: {name}") as on_step:
            batches = request.batches(request.labelled(images, model), model)
            results.append(lesion_study(model, batches, name=name, on_step=on_step))
    finish(request, "lesion", results, plot_lesions, images)


@click.command("filters")
@analysis_options()
def filters_command(request: Request) -> None:
    """Gain of high frequencies, layer by layer: of the models' attention and convolutions, and of
    random layers against kernel size, groups and window.
    """
    from ..analysis.filters import layer_gains, plot_filters, random_layer_gains

    images = request.dataset(64, 512)
    layers = _random_layers(32)
    with steps(request, len(layers), "random layers") as on_step:
        seeds = 4 if request.fast else 16
        results = [random_layer_gains(layers, 32, 16, seeds, on_step)]
    for name, model in request.load():
        with steps(request, len(images), f"filters: {name}") as on_step:
            batches = request.batches(images, model)
            results.append(layer_gains(model, batches, name=name, on_step=on_step))
    finish(request, "filters", results, plot_filters, images)


def _random_layers(width: int) -> dict[str, tuple[str, Callable[[], Any]]]:
    from torch import nn

    from ..layers.attention import Attention2d
    from ..layers.conv_attention import ConvAttention2d
    from ..layers.windows import LocalAttention

    layers: dict[str, tuple[str, Callable[[], Any]]] = {}
    for k in (1, 3, 5, 7, 9):
        for groups in dict.fromkeys((1, width // 4, width)):
            layers[f"convolution, kernel {k}, groups {groups}"] = (
                "convolution",
                lambda k=k, groups=groups: nn.Conv2d(
                    width, width, k, padding=k // 2, groups=groups
                ),
            )
    for k in (3, 5, 7, 9):
        layers[f"convolutional attention, kernel {k}"] = (
            "attention",
            lambda k=k: ConvAttention2d(width, num_heads=4, head_dim=width // 4, kernel_size=k),
        )
    for window in (2, 4, 8):
        layers[f"local attention, window {window}"] = (
            "attention",
            lambda window=window: LocalAttention(
                width, window_size=window, num_heads=4, head_dim=width // 4
            ),
        )
    layers["attention to all keys"] = (
        "attention",
        lambda: Attention2d(width, num_heads=4, head_dim=width // 4),
    )
    return layers


@click.command("nonlocality")
@analysis_options()
@click.option(
    "--feed",
    metavar="MODULE",
    help="Give the output of this module to all layers: patch_embed is the original's definition.",
)
def nonlocality_command(request: Request, feed: str | None) -> None:
    """Mean distance that every head attends over, in patches (ConViT, section 4)."""
    from ..analysis.nonlocality import nonlocality_study, plot_nonlocality

    images = request.dataset(64, 512)
    results = []
    for name, model in request.load():
        with steps(request, len(images), f"nonlocality: {name}") as on_step:
            batches = request.batches(images, model)
            results.append(nonlocality_study(model, batches, feed, name, on_step))
    finish(request, "nonlocality", results, plot_nonlocality, images)


@click.command("gates")
@analysis_options()
@click.option("--grid", default=0, help="Patches per side to draw on; default: the model's.")
def gates_command(request: Request, grid: int) -> None:
    """ConViT's gates and the positional attention of every head (ConViT, figs. 5 and 6); over
    epochs too, for a run of `convattn train --diagnostics`, beside other such runs.
    """
    from ..analysis.gates import gate_study, plot_gates, read_diagnostics
    from ..catalog.references import kind_of

    results = []
    for reference, (name, model) in zip(request.models, request.load(), strict=True):
        logged = read_diagnostics(reference) if kind_of(reference) == "directory" else ()
        side = grid or max(getattr(getattr(model, "patch_embed", None), "grid", (14, 14)))
        results.append(gate_study(model, (side, side), name, logged))
    finish(request, "gates", results, plot_gates)


@click.command("attention")
@analysis_options()
@click.option("--image", default=0, show_default=True, help="Which image of the part.")
@click.option(
    "--query",
    nargs=2,
    default=(0.5, 0.5),
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Where the query stands, as shares of height and width.",
)
def attention_command(request: Request, image: int, query: tuple[float, float]) -> None:
    """Attention of one patch, layer by layer and head by head (ConViT, fig. 7)."""
    from ..analysis.attention import plot_attention, query_attention
    from ..data.opening import open_dataset
    from ..errors import ConfigError

    images = open_dataset(request.data, request.part, on_unreadable=request.on_unreadable)
    if not 0 <= image < len(images):
        raise ConfigError(f"--image must be between 0 and {len(images) - 1}; got {image}")
    one = images.subset([image])
    pixels, _ = one[0]
    results = []
    for name, model in request.load():
        [(x, _)] = request.batches(one, model)
        results.append(query_attention(model, x, pixels.tolist(), query, name))
    finish(request, "attention", results, plot_attention, one)


@click.command("similarity")
@analysis_options()
def similarity_command(request: Request) -> None:
    """Do all queries look at the same (A Close Look at Spatial Modeling, figs. 1 and 3)? Attention
    rows compared; similarity maps of global contexts.
    """
    from ..analysis.similarity import plot_similarity, similarity_study

    images = request.dataset(64, 256)
    results = []
    for name, model in request.load():
        with steps(request, len(images), f"similarity: {name}") as on_step:
            batches = request.batches(images, model)
            results.append(similarity_study(model, batches, name, on_step))
    finish(request, "similarity", results, plot_similarity, images)


_clean = click.option("--clean", is_flag=True, help="Images without augmentation.")
_decay = click.option(
    "--weight-decay", default=0.05, show_default=True, help="Of the L2 term, (wd / 2) sum w^2."
)


def _loss_batches(request: Request, clean: bool, count: int, fast: int) -> tuple[Any, str, Any]:
    """(function from a model to its batches, what they are, data set)."""
    images = request.dataset(fast, count)
    if clean:
        return (
            lambda model: list(request.batches(request.labelled(images, model), model)),
            f"{images.name} without augmentation",
            images,
        )
    return (
        lambda model: training_batches(
            request, model, request.labelled(images, model), request.batch_size
        ),
        f"{images.name} augmented as in training",
        images,
    )


@click.command("landscape")
@analysis_options(part="train")
@click.option("--grid", default=21, show_default=True, help="Points per side, odd; --fast: 7.")
@click.option("--extent", default=1.0, show_default=True, help="The plane is [-extent, extent]^2.")
@click.option(
    "--norm",
    default="how-do-vits-work",
    show_default=True,
    type=click.Choice(["how-do-vits-work", "filter"]),
    help="Of the directions; filter is Li et al.'s.",
)
@_decay
@_clean
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
def landscape_command(
    request: Request,
    grid: int,
    extent: float,
    norm: str,
    weight_decay: float,
    clean: bool,
    workers: int,
) -> None:
    """NLL and L2 on a plane through the trained weights (How Do Vision Transformers Work?, fig.
    1a). Says first how long it will take; run again after an interruption, it goes on.
    """
    from ..analysis.landscape import (
        LandscapeSettings,
        estimate_seconds,
        loss_landscape,
        plot_landscape,
    )
    from ..files.local import make_directory

    out = make_directory(request.out)
    batches_of, what, images = _loss_batches(request, clean, 512, 32)
    count = 7 if request.fast else grid
    settings = LandscapeSettings(
        count, extent, norm, weight_decay=weight_decay, seed=request.seed, workers=workers,
        data=what,
    )  # fmt: skip
    results = []
    for number, (name, model) in enumerate(request.load()):
        batches = batches_of(model)
        seconds = estimate_seconds(model, batches, settings)
        click.echo(
            f"{name}: {count**2} points of {len(images)} images, about {_duration(seconds)}",
            err=True,
        )
        log = out / f"landscape-{number}-{name.replace(' ', '_')}.jsonl"
        with steps(request, count**2, f"landscape: {name}") as on_step:
            results.append(loss_landscape(model, batches, settings, name, log, on_step))
    finish(request, "landscape", results, plot_landscape, images)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@click.command("hessian")
@analysis_options(part="train", batch_size=32)
@click.option("--batches", default=16, show_default=True, type=click.IntRange(1), help="At most.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Of each batch.")
@click.option("--tolerance", default=1e-3, show_default=True, help="Relative change to stop at.")
@click.option("--max-iterations", default=100, show_default=True, type=click.IntRange(2))
@click.option(
    "--density-steps", default=40, show_default=True, help="Lanczos steps; 0: no density."
)
@_decay
@_clean
def hessian_command(
    request: Request,
    batches: int,
    top: int,
    tolerance: float,
    max_iterations: int,
    density_steps: int,
    weight_decay: float,
    clean: bool,
) -> None:
    """Hessian max-eigenvalue spectra (figs. 1c and 4 there): the largest eigenvalues of the loss
    of every mini-batch, and the spectral density of one.
    """
    from ..analysis.hessian import HessianSettings, hessian_spectrum, plot_hessian

    if request.fast:
        batches, top, max_iterations, density_steps = min(batches, 4), 1, 20, 0
        request = replace(request, batch_size=min(request.batch_size, 16))
    count = batches * request.batch_size
    batches_of, what, images = _loss_batches(request, clean, count, count)
    settings = HessianSettings(
        top, weight_decay, tolerance, max_iterations, density_steps, seed=request.seed, data=what
    )
    results = []
    for name, model in request.load():
        with steps(request, batches, f"hessian: {name}") as on_step:
            chosen = batches_of(model)[:batches]
            results.append(hessian_spectrum(model, chosen, settings, name, on_step))
    finish(request, "hessian", results, plot_hessian, images)


def _predictors(request: Request, provider: str, trust_code: bool) -> Iterator[tuple[str, Any]]:
    from ..catalog.references import kind_of
    from ..evaluation.predictor import Predictor
    from .predict import load_predictor

    seen: set[str] = set()
    for reference in request.models:
        if kind_of(reference) == "file" or request.init is None:
            given = {"keywords": request.keywords, "weights": request.weights}
            predictor = load_predictor(reference, provider, trust_code=trust_code, **given)
        else:
            predictor = Predictor.from_model(request.load_one(reference))
        what = predictor.name
        if kind_of(reference) == "file":
            what = f"{what} ({reference.rpartition('.')[2]})"
        yield request.name(reference, what, seen), predictor


@click.command("noise")
@analysis_options()
@click.option("--eps", default=0.7, show_default=True, help="Amplitude, on normalised pixels.")
@click.option("--bands", default=11, show_default=True, type=click.IntRange(2), help="0 to π.")
@click.option("--width", default=0.2, show_default=True, help="Half width of a band, radians.")
@provider_option()
@trust_option()
def noise_command(
    request: Request, eps: float, bands: int, width: float, provider: str, trust_code: bool
) -> None:
    """Accuracy under noise of one frequency band (How Do Vision Transformers Work?, fig. 2b), and
    on low-pass and high-pass images. Takes .onnx, .pt and .pt2 files too.
    """
    import numpy as np

    from ..analysis._hooks import ImageBatches
    from ..analysis.noise import NoiseSettings, noise_study, plot_noise
    from ..data.dataset import in_classes_of

    images = request.dataset(128, 1024)
    count = min(bands, 6) if request.fast else bands
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
    from ..data.dataset import in_classes_of

    kind = request.data.partition(":")[0]
    clean = None if kind.endswith("-c") else request.dataset(32, 2000)
    reference = Reference("AlexNet", ALEXNET_IMAGENET_C) if kind == "imagenet-c" else None
    what = "Corruptions of ours, see zoo.analysis.corruptions." if clean else "Published sets."
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
    from ..data.damage import CORRUPTIONS

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
        from ..data.damage import corrupt

        seed = self.seed * 1_000_003 + index
        image = corrupt(self.images[index], self.corruption, self.severity, seed)
        return image, int(self.targets[index])


@click.command("buildup")
@analysis_options(several=False)
@click.option(
    "--plan",
    default="CC CA CACA",
    show_default=True,
    help="Stages of the last model: C convolution, A attention block.",
)
@click.option("--epochs", type=click.IntRange(1), help="Default: 15; with --fast 2.")
def buildup_command(request: Request, plan: str, epochs: int | None) -> None:
    """From a CNN to AlterNet, one attention block at a time, from the end (How Do Vision
    Transformers Work?). MODEL is an architecture with `stages`, e.g. alternet_nano; every
    plan is trained anew. Finished trainings in --out are taken up again.
    """
    from ..analysis.buildup import build_up_study, plot_build_up
    from ..factory.building import find_class
    from ..training.recipe import scaled
    from ..training.recipes import default_recipe

    build_up: Any = find_class("alternet:build_up")
    plans = list(build_up(plan.split()))
    count = epochs or (2 if request.fast else 15)
    recipe = scaled(default_recipe(request.data), epochs=count, seed=request.seed)
    images = request.dataset(128)
    [model] = request.models
    with steps(request, len(plans), f"build-up: {len(plans)} trainings") as on_step:
        result = build_up_study(
            plans,
            lambda stages: _measure_plan(request, model, stages, recipe, images),
            model,
            f"{recipe.name}, {count} epochs, seed {request.seed}",
            f"Accuracies under noise on {images.name}, {len(images)} images.",
            on_step,
        )
    finish(request, "buildup", [result], plot_build_up, images)


def _measure_plan(
    request: Request, model: str, stages: Plan, recipe: Any, images: Any
) -> PlanMeasurement:
    import numpy as np

    from ..analysis.buildup import PlanMeasurement
    from ..analysis.fourier import fourier_analysis
    from ..analysis.noise import noise_study
    from ..evaluation.evaluate import Accuracy
    from ..evaluation.predictor import Predictor
    from ..factory.create import create_model

    run = request.out / "-".join(stages)
    metrics = _train_plan(request, model, stages, recipe, run)
    network = create_model(str(run), pretrained=True).eval()
    batches = request.batches(images, network)
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


def _train_plan(
    request: Request, model: str, stages: Plan, recipe: Any, run: Path
) -> dict[str, Any]:
    """metrics.json of the run; trained now unless the same training is there."""
    from dataclasses import asdict

    from ..training.job import Job
    from ..training.run import DOCUMENT, train_model

    path = run / "metrics.json"
    wanted = json.loads(json.dumps(asdict(recipe)))
    if path.is_file():
        found = DOCUMENT.read(path)
        same = (found["model"], found["data"]) == (model, request.data)
        if same and found["recipe"] == wanted:
            return dict(found)
    click.echo(f"training {' '.join(stages)}", err=True)
    job = Job(model=model, data=request.data, recipe=recipe, config={"stages": tuple(stages)})
    train_model(job, run, resume=True)
    return dict(DOCUMENT.read(path))


@click.command("sweep")
@click.argument("sweeps", metavar="DIR...", nargs=-1, required=True)
@click.option("--against", help="The setting on the x axis; default: the first that varies.")
@click.option(
    "--part",
    default="validation",
    show_default=True,
    type=click.Choice(["validation", "test"]),
    help="Part of the data.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def sweep_command(
    sweeps: tuple[str, ...], against: str | None, part: str, out: Path, as_json: bool
) -> None:
    """Accuracy against a setting, from runs of `convattn train --sweep`: sample efficiency and
    ablations (ConViT, tables 2 and 3), kernel size (How Do Vision Transformers Work?, fig. 7).
    """
    from ..analysis.sweep import plot_sweeps, sweep_study

    request = Request(sweeps, "", part, None, 0, out, False, 0, None, as_json)
    results = [sweep_study(directory, against, part) for directory in sweeps]
    finish(request, "sweep", results, plot_sweeps)
