"""train: from a model name and images to a run directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..files.json_text import to_json
from ._options import say
from ._references import ModelReference
from ._sweep import run_sweep_command
from ._training_options import (
    machine_of,
    model_keywords,
    recipe_changes,
    refuse_idle_options,
    training_options,
)

if TYPE_CHECKING:
    from ..training.job import Job, TrainingResult


@click.command("train")
@click.argument("model", type=ModelReference(), required=False, default="")
@training_options
def train_command(model: str, **options: Any) -> None:
    """Train MODEL (an architecture of `convattn list`, or timm:NAME) and write a run directory.

    The best epoch by validation accuracy is kept; the test part is measured once, at the end.
    `accelerate launch` and `torchrun` run the same command on many GPUs: a step has the same images
    however many processes share it.
    """
    refuse_idle_options()
    if options["sweep"]:
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
    from ..training.defaults import choose_defaults
    from ..training.job import Job
    from ..training.recipe import scaled
    from ..training.start import check_drop_path, check_tag

    if not model:
        raise click.UsageError("Missing argument 'MODEL'.")
    if not options["data"]:
        raise click.UsageError("Missing option '--data'.")
    if options["from_scratch"] and options["finetune_from"]:
        raise click.UsageError("give one of --from-scratch and --finetune-from")
    config, size = model_keywords(options), options["img_size"]
    changes = recipe_changes(options)
    chosen = choose_defaults(
        model, options["data"], recipe=options["recipe"], img_size=size, config=config,
        start="" if options["from_scratch"] else options["finetune_from"],
        epochs=changes.get("epochs"),
    )  # fmt: skip
    check_drop_path(model, changes, config)
    if not options["probe"]:
        check_tag(model, chosen.start)
    if not options["probe"] and _speaks():
        click.echo(chosen.reason, err=True)
    return Job(
        model=model,
        data=options["data"],
        recipe=scaled(chosen.recipe, **changes),
        fraction=1.0 if options["fraction"] is None else options["fraction"],
        finetune_from=chosen.start,
        freeze=tuple(options["freeze"]),
        img_size=size,
        config=config,
        on_unreadable=options["on_unreadable"],
    )


def _speaks() -> bool:
    """Whether this is the process of a training that writes to the screen."""
    return int(os.environ.get("RANK", "0")) == 0


def _train(job: Job, options: dict[str, Any]) -> TrainingResult | None:
    """Train and export. Returns: None for a run that was finished before."""
    from ..training.baseline import baseline_of
    from ..training.run import is_finished, open_parts, train_model
    from ._watch import watching

    out = options["out"]
    if options["resume"] and is_finished(out, job):
        click.echo(f"{out} is finished; nothing to continue", err=True)
        return None
    parts = open_parts(job)
    baseline = baseline_of(job.data, parts) if _speaks() else None
    say_what_is_left_out(job, parts)
    if baseline is not None:
        click.echo(baseline.summary(), err=True)
    with watching(job, options) as watch:
        result = train_model(
            job,
            out,
            machine=machine_of(options),
            watch=watch,
            resume=options["resume"],
            overwrite=options["overwrite"],
            baseline=baseline,
        )
    for warning in result.warnings(baseline) if _speaks() else ():
        click.echo(f"warning: {warning}", err=True)
    return result


def say_what_is_left_out(job: Job, parts: Callable[[str], Any]) -> None:
    """Files of a folder that are no images, and images that no part has or that cannot be read."""
    from ..data.digits import PARTS
    from ..data.image_listing import list_folder, skipped_remark
    from ..data.opening import parse_spec

    if parse_spec(job.data)[0] == "folder" and _speaks():
        found = [images for name in PARTS if (images := parts(name)) is not None]
        skipped = {path for images in found for path in images.skipped}
        seen = {path for images in found for path in images.source.paths}
        listing = list_folder(job.data)
        others = [name for name in listing.names if name not in seen]
        say(
            listing.remark(nested=False),
            skipped_remark(others, "lie in no class folder of a part"),
            skipped_remark(sorted(skipped)),
        )


def _finish(result: TrainingResult | None, job: Job, options: dict[str, Any], **extra: Any) -> None:
    """Export and report; `extra` joins the metrics in the JSON."""
    from ..files.listed import read_document
    from ..training.learner import is_main_process
    from ..training.run import DOCUMENT, METRICS

    if result is not None and not is_main_process():
        return
    out: Path = options["out"]
    if options["export"]:
        _export(out, tuple(options["export"]))
    if options["as_json"]:
        metrics = read_document(DOCUMENT, out / METRICS)
        click.echo(to_json({**metrics, **extra}, indent=2))
        return
    if result is None:
        return
    click.echo(summary(result))
    size = (out / "model.safetensors").stat().st_size
    click.echo(f"wrote {out}/model.safetensors ({size / 1e6:.2f} MB), config.json, metrics.json")
    click.echo(f"next: convattn predict {out} IMAGE, or convattn export {out} --out DIR")
    click.echo(
        f"or complete {out}/CARD.md: convattn bundle {out} --out DIR writes all that the Hub needs"
    )


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
    from export.directory import export_model

    from ..factory.create import create_model
    from .verify import parity_table

    model = create_model(str(out), pretrained=True).eval()
    report = export_model(model, out, formats).report
    click.echo(parity_table(report), err=True)


def _reproduce(model: str, options: dict[str, Any]) -> None:
    """Train the weights of a record again, by its recipe and seed, and compare."""
    from ..catalog.registry import get_record
    from ..errors import NoWeightsError, ParityError
    from ..training.job import Job
    from ..training.learner import is_main_process
    from ..training.recipe import scaled
    from ..training.recipes import get_recipe
    from ..training.report import compare_with_release

    if model or options["recipe"]:
        raise click.UsageError("--reproduce takes model, data and recipe from the record")
    record = get_record(options["reproduce"])
    weights = record.selected
    if weights is None or not weights.recipe:
        raise NoWeightsError(
            f"no recipe is recorded for weights of {options['reproduce']}, so they cannot be "
            "trained again; `convattn info MODEL` shows which weights have one"
        )
    recipe = scaled(get_recipe(weights.recipe), seed=weights.seed)
    if options["epochs"] is not None:
        recipe = scaled(recipe, epochs=options["epochs"])
    job = Job(
        model=record.name,
        data=weights.tag,
        recipe=recipe,
        img_size=weights.input.size if weights.input else None,
        config=weights.overrides,
    )
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
    from ..training.probe import probe

    found = probe(job, options["probe"], options["out"])
    if options["as_json"]:
        click.echo(to_json(found.to_dict(), indent=2))
        return
    click.echo(found.summary())
