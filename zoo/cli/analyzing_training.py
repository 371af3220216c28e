"""analyze buildup, sweep: what many trainings show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._analysis import Request, analysis_options, finish, steps

if TYPE_CHECKING:
    from ..analysis.buildup import Plan, PlanMeasurement


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
    from ..analysis.buildup import build_up_study
    from ..analysis.plots.training import plot_build_up
    from ..factory import find_class
    from ..training.recipes import default_recipe, scaled

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
    from ..evaluation import Accuracy
    from ..factory import create_model
    from ..prediction import Predictor

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

    from ..training.jobs import Job
    from ..training.run import train_model

    path = run / "metrics.json"
    wanted = json.loads(json.dumps(asdict(recipe)))
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = (found["model"], found["data"]) == (model, request.data)
        if same and found["recipe"] == wanted:
            return found
    click.echo(f"training {' '.join(stages)}", err=True)
    job = Job(model=model, data=request.data, recipe=recipe, config={"stages": tuple(stages)})
    train_model(job, run, resume=True)
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


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
    from ..analysis.plots.training import plot_sweeps
    from ..analysis.sweeps import sweep_study

    request = Request(sweeps, "", part, None, 0, out, False, 0, None, as_json)
    results = [sweep_study(directory, against, part) for directory in sweeps]
    finish(request, "sweep", results, plot_sweeps)
