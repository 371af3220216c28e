"""analyze: what looks into a model layer by layer, and sweep, which reads finished runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ._analysis_files import finish
from .analyze import Request, analysis_options, steps


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
        batches = request.batches(request.labelled(images, model), model)
        with steps(request, count_lesions(model), f"lesions: {name}") as on_step:
            results.append(lesion_study(model, batches, name=name, on_step=on_step))
    finish(request, "lesion", results, plot_lesions, images)


@click.command("filters")
@analysis_options()
def filters_command(request: Request) -> None:
    """Gain of high frequencies, layer by layer: of the models' attention and convolutions, and of
    random layers against kernel size, groups and window.
    """
    from ..analysis.filters import layer_gains, plot_filters, random_layer_gains, random_layers

    images = request.dataset(64, 512)
    layers = random_layers(32)
    with steps(request, len(layers), "random layers") as on_step:
        seeds = 4 if request.fast else 16
        results = [random_layer_gains(layers, 32, 16, seeds, on_step)]
    for name, model in request.load():
        with steps(request, len(images), f"filters: {name}") as on_step:
            batches = request.batches(images, model)
            results.append(layer_gains(model, batches, name=name, on_step=on_step))
    finish(request, "filters", results, plot_filters, images)


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
@analysis_options(without=("data", "part", "images", "batch_size", "fast", "seed", "on_unreadable"))
@click.option("--data", default="", help="Note it if the weights were trained on other images.")
@click.option(
    "--grid", type=click.IntRange(1), help="Patches per side to draw on; default: the model's."
)
def gates_command(request: Request, grid: int | None) -> None:
    """ConViT's gates and the positional attention of every head (ConViT, figs. 5 and 6); over
    epochs too, for a run of `convattn train --diagnostics`, beside other such runs.
    """
    from ..analysis.gates import gate_study, plot_gates, read_diagnostics
    from ..catalog.references import kind_of

    results = []
    for reference, (name, model) in zip(request.models, request.load(), strict=True):
        logged = read_diagnostics(reference) if kind_of(reference) == "directory" else ()
        embed: Any = getattr(model, "patch_embed", None)
        side = grid or max(getattr(embed, "grid", getattr(embed, "grid_size", (14, 14))))
        results.append(gate_study(model, (side, side), name, logged))
    finish(request, "gates", results, plot_gates)


@click.command("attention")
@analysis_options(without=("images", "batch_size", "fast", "seed"))
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

    request = Request(sweeps, out, part=part, as_json=as_json)
    results = [sweep_study(directory, against, part) for directory in sweeps]
    finish(request, "sweep", results, plot_sweeps)
