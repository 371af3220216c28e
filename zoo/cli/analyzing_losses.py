"""analyze landscape, hessian: the loss around trained weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from ._analysis import Request, analysis_options, finish, steps, training_batches

_clean = click.option("--clean", is_flag=True, help="Images without augmentation.")
_decay = click.option(
    "--weight-decay", default=0.05, show_default=True, help="Of the L2 term, (wd / 2) sum w^2."
)


def _loss_batches(request: Request, clean: bool, count: int, fast: int) -> tuple[Any, str, Any]:
    """(function from a model to its batches, what they are, data set)."""
    images = request.dataset(fast, count)
    if clean:
        return (
            lambda model: list(request.batches(images, model)),
            f"{images.name} without augmentation",
            images,
        )
    return (
        lambda model: training_batches(request, model, images, request.batch_size),
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
    from ..analysis.landscape_grid import LandscapeSettings, estimate_seconds, loss_landscape
    from ..analysis.plots.losses import plot_landscape
    from ..files import make_directory

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
    from ..analysis.hessian import HessianSettings, hessian_spectrum
    from ..analysis.plots.losses import plot_hessian

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
