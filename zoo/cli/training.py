"""train: from a model name and images to a run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._training_options import RECIPE_FIELDS, key_values, training_options

if TYPE_CHECKING:
    from ..training.jobs import Job
    from ..training.learner import Machine
    from ..training.results import TrainingResult


@click.command("train")
@click.argument("model", required=False, default="")
@training_options
def train_command(model: str, **options: Any) -> None:
    """Train MODEL (an architecture of `convattn list`) and write a run directory.

    The best epoch by validation accuracy is kept; the test part is measured once, at the end.
    `accelerate launch` and `torchrun` run the same command on many GPUs: a step has the same images
    however many processes share it.
    """
    given = sum(bool(options[name]) for name in ("sweep", "reproduce", "probe"))
    if given > 1:
        raise click.UsageError("give one of --sweep, --reproduce and --probe")
    if options["sweep"]:
        from ._sweeping import run_sweep_command

        run_sweep_command(model, options)
        return
    if options["reproduce"]:
        _reproduce(model, options)
        return
    job = make_job(model, options)
    if options["probe"]:
        _probe(job, options)
        return
    _finish(_train(job, options), job, options)


def make_job(model: str, options: dict[str, Any]) -> Job:
    """The job that the options describe. Raises: click.UsageError, ConfigError."""
    from ..training.jobs import Job
    from ..training.recipes import default_recipe, get_recipe, scaled

    if not model:
        raise click.UsageError("Missing argument 'MODEL'.")
    if not options["data"]:
        raise click.UsageError("Missing option '--data'.")
    recipe = get_recipe(options["recipe"]) if options["recipe"] else default_recipe(options["data"])
    recipe = scaled(recipe, **key_values(options["fields"]))
    recipe = scaled(recipe, **{name: options[name] for name in RECIPE_FIELDS})
    return Job(
        model=model,
        data=options["data"],
        recipe=recipe,
        fraction=options["fraction"],
        finetune_from=options["finetune_from"] or "",
        freeze=tuple(options["freeze"]),
        img_size=options["img_size"],
        config=key_values(options["config"]),
        on_unreadable=options["on_unreadable"],
    )


def _machine(options: dict[str, Any]) -> Machine:
    from ..training.learner import Machine

    return Machine(options["workers"], options["cpu"], options["micro_batch"])


def _train(job: Job, options: dict[str, Any]) -> TrainingResult | None:
    """Train and export. Returns: None for a run that was finished before."""
    from ..training.run import is_finished, train_model
    from ._training_watch import watching

    out = options["out"]
    if options["resume"] and is_finished(out, job):
        click.echo(f"{out} is finished; nothing to continue", err=True)
        return None
    with watching(job, options) as watch:
        result = train_model(
            job, out, machine=_machine(options), watch=watch, resume=options["resume"]
        )
    return result


def _finish(result: TrainingResult | None, job: Job, options: dict[str, Any], **extra: Any) -> None:
    """Export and report; `extra` joins the metrics in the JSON."""
    from ..training.learner import is_main_process

    if result is not None and not is_main_process():
        return
    out: Path = options["out"]
    if options["export"]:
        _export(out, tuple(options["export"]))
    if options["as_json"]:
        metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
        click.echo(json.dumps({**metrics, **extra}, indent=2))
        return
    if result is None:
        return
    click.echo(summary(result))
    size = (out / "model.safetensors").stat().st_size
    click.echo(f"wrote {out}/model.safetensors ({size / 1e6:.2f} MB), config.json, metrics.json")
    click.echo(f"next: convattn predict {out} IMAGE, or convattn export {out} --out DIR")


def summary(result: TrainingResult) -> str:
    """One line: the best epoch and the accuracies."""
    text = (
        f"best epoch {result.best.epoch} of {result.recipe.total_epochs}: validation "
        f"{result.best.validation.percent:.1f} %"
    )
    if result.test is not None:
        low, high = result.test.interval_percent
        text += f", test {result.test.percent:.1f} % ({low:.1f} to {high:.1f} at 95 %)"
    return f"{text}, {result.seconds:.0f} s"


def _export(out: Path, formats: tuple[str, ...]) -> None:
    """Add verified exports of the run to its directory; its manifest then lists both."""
    from export import export_model

    from ..factory import create_model
    from ..manifest import read_manifest
    from ..training.run import write_manifest
    from .exporting import parity_table

    model = create_model(str(out), pretrained=True).eval()
    report = export_model(model, out, formats).report
    write_manifest(model, out, read_manifest(out).paths)
    click.echo(parity_table(report), err=True)


def _reproduce(model: str, options: dict[str, Any]) -> None:
    """Train the weights of a record again, by its recipe and seed, and compare."""
    from ..errors import NoWeightsError, ParityError
    from ..registry import get_record
    from ..training.jobs import Job
    from ..training.learner import is_main_process
    from ..training.recipes import get_recipe, scaled
    from ..training.reproduction import compare_with_release

    if model or options["recipe"]:
        raise click.UsageError("--reproduce takes model, data and recipe from the record")
    record = get_record(options["reproduce"])
    weights = record.selected
    if weights is None or not weights.recipe:
        raise NoWeightsError(
            f"no recipe is recorded for weights of {options['reproduce']}, so they cannot be "
            "trained again; `convattn info MODEL` shows which weights have one"
        )
    recipe = scaled(get_recipe(weights.recipe), seed=weights.seed, epochs=options["epochs"])
    job = Job(model=record.name, data=weights.tag, recipe=recipe, config=weights.overrides)
    result = _train(job, options)
    if not is_main_process():
        return
    found = compare_with_release(weights.name, weights.sha256, options["out"], job.data)
    _finish(result, job, options, reproduction=found.to_dict())
    if not found:
        raise ParityError(found.summary(), code="not_reproduced")
    click.echo(found.summary(), err=options["as_json"])


def _probe(job: Job, options: dict[str, Any]) -> None:
    """Classify frozen features."""
    from ..training.probing import probe

    found = probe(job, options["probe"], options["out"])
    if options["as_json"]:
        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    click.echo(found.summary())
