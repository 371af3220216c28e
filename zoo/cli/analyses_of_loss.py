"""analyze landscape, hessian and buildup: the loss, and what training makes of an architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from ._analysis_files import finish
from ._given import given_options
from ._options import ImageSize, say
from .analyze import Request, analysis_options, steps

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
    from ..training.augmented import augmented_batches

    return (
        lambda model: augmented_batches(
            request.labelled(images, model),
            model.pretrained_cfg.input,
            request.data,
            request.batch_size,
            request.seed,
        ),
        f"{images.name} augmented as in training",
        images,
    )


def _count(batches: Sequence[tuple[Any, Any]]) -> int:
    """Images in them: an odd one at the end may have been left out."""
    return sum(len(images) for images, _ in batches)


@click.command("landscape")
@analysis_options(part="train")
@click.option(
    "--grid", type=click.IntRange(3), help="Points per side, odd. Default: 21; with --fast 7."
)
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
    grid: int | None,
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
    count = grid or (7 if request.fast else 21)
    settings = LandscapeSettings(
        count, extent, norm, weight_decay=weight_decay, seed=request.seed, workers=workers,
        data=what,
    )  # fmt: skip
    results, used = [], 0
    for number, (name, model) in enumerate(request.load()):
        batches = batches_of(model)
        used = _count(batches)
        seconds = estimate_seconds(model, batches, settings)
        click.echo(
            f"{name}: {count**2} points of {used} images, about {_duration(seconds)}",
            err=True,
        )
        log = out / f"landscape-{number}-{name.replace(' ', '_')}.jsonl"
        with steps(request, count**2, f"landscape: {name}") as on_step:
            results.append(loss_landscape(model, batches, settings, name, log, on_step))
    finish(request, "landscape", results, plot_landscape, images, used)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@click.command("hessian")
@analysis_options(part="train", batch_size=32)
@click.option("--batches", type=click.IntRange(1), help="At most. Default: 16; with --fast 4.")
@click.option("--top", type=click.IntRange(1), help="Of each batch. Default: 5; with --fast 1.")
@click.option("--tolerance", default=1e-3, show_default=True, help="Relative change to stop at.")
@click.option("--max-iterations", type=click.IntRange(2), help="Default: 100; with --fast 20.")
@click.option(
    "--density-steps",
    type=click.IntRange(0),
    help="Lanczos steps; 0: no density. Default: 40; with --fast 0.",
)
@_decay
@_clean
def hessian_command(
    request: Request,
    batches: int | None,
    top: int | None,
    tolerance: float,
    max_iterations: int | None,
    density_steps: int | None,
    weight_decay: float,
    clean: bool,
) -> None:
    """Hessian max-eigenvalue spectra (figs. 1c and 4 there): the largest eigenvalues of the loss
    of every mini-batch, and the spectral density of one.
    """
    from ..analysis.hessian import HessianSettings, hessian_spectrum, plot_hessian

    fast = request.fast
    batches = batches or (4 if fast else 16)
    if fast and not given_options("batch_size"):
        request = replace(request, batch_size=16)
    count = batches * request.batch_size
    request = replace(request, images=min(request.images or count, count))
    batches_of, what, images = _loss_batches(request, clean, count, count)
    settings = HessianSettings(
        top or (1 if fast else 5),
        weight_decay,
        tolerance,
        max_iterations or (20 if fast else 100),
        (0 if fast else 40) if density_steps is None else density_steps,
        seed=request.seed,
        data=what,
    )
    results, used = [], 0
    for name, model in request.load():
        with steps(request, batches, f"hessian: {name}") as on_step:
            chosen = batches_of(model)
            used = _count(chosen)
            results.append(hessian_spectrum(model, chosen, settings, name, on_step))
    finish(request, "hessian", results, plot_hessian, images, used)


@click.command("buildup")
@analysis_options(several=False, without=("init", "weights"))
@click.option(
    "--plan",
    default="CC CA CACA",
    show_default=True,
    help="Stages of the last model: C convolution, A attention block.",
)
@click.option("--epochs", type=click.IntRange(1), help="Default: 15; with --fast 2.")
@click.option("--img-size", type=ImageSize(8), help="Of the input, in pixels: 224 or 192,256.")
def buildup_command(
    request: Request, plan: str, epochs: int | None, img_size: tuple[int, int] | None
) -> None:
    """From a CNN to AlterNet, one attention block at a time, from the end (How Do Vision
    Transformers Work?). MODEL is an architecture with `stages`, e.g. alternet_nano; every
    plan is trained anew. Finished trainings in --out are taken up again.
    """
    from ..analysis.buildup import build_up_study, plot_build_up
    from ..factory.building import find_class
    from ..training.build_up import measure_plan
    from ..training.job import Job
    from ..training.recipe import scaled
    from ..training.recipes import default_recipe

    build_up: Any = find_class("alternet:build_up")
    plans = list(build_up(plan.split()))
    count = epochs or (2 if request.fast else 15)
    recipe = scaled(default_recipe(request.data), epochs=count, seed=request.seed)
    images = request.dataset(128)
    [model] = request.models
    if "stages" in request.keywords:
        raise click.UsageError("--set stages=... has no effect: --plan says the stages")
    job = Job(
        model=model,
        data=request.data,
        recipe=recipe,
        config=request.keywords,
        img_size=img_size,
        on_unreadable=request.on_unreadable,
    )
    given = request.keywords | ({} if img_size is None else {"img_size": job.img_size})
    settings = "".join(f", {key}={value}" for key, value in given.items())
    with steps(request, len(plans), f"build-up: {len(plans)} trainings") as on_step:
        result = build_up_study(
            plans,
            lambda plan: measure_plan(job, plan, request.out, images, request.batch_size, say),
            model,
            f"{recipe.name}, {count} epochs, seed {request.seed}{settings}",
            f"Accuracies under noise on {images.name}, {len(images)} images.",
            on_step,
        )
    finish(request, "buildup", [result], plot_build_up, images)
