"""analyze fourier, variance, lesion, specificity, filters: over depth, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ._analysis import Request, analysis_options, finish, steps


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
    from ..analysis.fourier import fourier_analysis
    from ..analysis.plots.depth import plot_fourier

    _over_models(request, "fourier", 64, 512, fourier_analysis, plot_fourier)


@click.command("variance")
@analysis_options()
def variance_command(request: Request) -> None:
    """Variance of feature maps over positions, over depth (How Do Vision Transformers Work?)."""
    from ..analysis.feature_variance import feature_variance
    from ..analysis.plots.depth import plot_variance

    _over_models(request, "variance", 64, 512, feature_variance, plot_variance)


@click.command("specificity")
@analysis_options()
def specificity_command(request: Request) -> None:
    """How much attention and feature maps vary between images, and how much between places."""
    from ..analysis.plots.heads import plot_specificity
    from ..analysis.specificity import specificity_study

    _over_models(request, "specificity", 64, 512, specificity_study, plot_specificity)


@click.command("lesion")
@analysis_options()
def lesion_command(request: Request) -> None:
    """Accuracy lost when each unit is taken out of the trained model."""
    from ..analysis.lesion import count_lesions, lesion_study
    from ..analysis.plots.depth import plot_lesions

    images = request.dataset(200)
    results = []
    for name, model in request.load():
        with steps(request, count_lesions(model), f"lesions: {name}") as on_step:
            batches = request.batches(images, model)
            results.append(lesion_study(model, batches, name=name, on_step=on_step))
    finish(request, "lesion", results, plot_lesions, images)


@click.command("filters")
@analysis_options()
def filters_command(request: Request) -> None:
    """Gain of high frequencies, layer by layer: of the models' attention and convolutions, and of
    random layers against kernel size, groups and window.
    """
    from ..analysis.filters import layer_gains, random_layer_gains
    from ..analysis.plots.filters import plot_filters

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

    from ..layers.conv_attention import ConvAttention2d
    from ..layers.local_attention import Attention2d, LocalAttention

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
