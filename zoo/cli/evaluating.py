"""evaluate."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..files import write_text
from ._options import provider_option
from ._progress import progress

if TYPE_CHECKING:
    from ..corruption_evaluation import CorruptionEvaluation
    from ..evaluation import Evaluation
    from ..prediction import Predictor


@click.command("evaluate")
@click.argument("model")
@click.option(
    "--data",
    required=True,
    help="digits, an image folder, cifar10:DIR, cifar100:DIR, imagenet:DIR, cifar10-c:DIR, "
    "cifar100-c:DIR or imagenet-c:DIR.",
)
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(["train", "validation", "test"]),
    help="Part of the data; repeatable. Without it: test, or validation if there is no test part.",
)
@click.option(
    "--corruption", "corruptions", multiple=True, help="Only this one; repeatable. For -c data."
)
@click.option(
    "--metric-definition",
    "definition",
    default="textbook",
    show_default=True,
    type=click.Choice(["textbook", "how-do-vits-work"]),
    help="Which definition of the metrics (docs/evaluation.md).",
)
@click.option("--mc-samples", type=click.IntRange(1), help="Passes with MC dropout, averaged.")
@click.option("--seed", default=0, show_default=True, help="Of MC dropout's masks.")
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(1))
@click.option(
    "--on-unreadable",
    default="fail",
    show_default=True,
    type=click.Choice(["fail", "skip"]),
    help="What an image that cannot be read does.",
)
@provider_option()
@click.option("--plots", is_flag=True, help="Also draw reliability and confusion, as PNG in OUT.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Also write OUT/NAME/accuracy.json, with how it was measured.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate_command(
    model: str, data: str, out: Path | None, as_json: bool, plots: bool, **options: Any
) -> None:
    """Measure MODEL (any reference that predict takes) on labelled images.

    Accuracy, top-5, calibration (NLL, Brier, ECE, ECSE), IoU and how certain the model is of its
    errors, with 95 % intervals; for corrupted data, a table of accuracies and their mean.
    """
    from ..measurement import provenance
    from ._evaluation_text import compact_json, corruption_text, evaluation_text

    corrupted = data.partition(":")[0].endswith("-c")
    _check_usage(corrupted, out, plots, options)
    predictor = _open(model, options)
    result = _about(model, predictor, options)
    how = provenance(options["seed"] if options["mc_samples"] else None)
    folder = (out or Path()) / _folder(predictor.name)
    if corrupted:
        found = _evaluate_corruptions(predictor, data, as_json, options)
        result |= {"data": data.partition(":")[0], **found.to_dict(), **how}
        text = corruption_text(predictor.name, result["data"], found)
    else:
        evaluations = _evaluate(predictor, data, as_json, options)
        result |= {"results": {found.dataset: found.to_dict() for found in evaluations}, **how}
        text = "\n\n".join(evaluation_text(predictor.name, found) for found in evaluations)
        text += _draw(evaluations, folder) if plots else ""
    if out is not None:
        path = folder / _file_name(model, corrupted)
        write_text(path, compact_json(result) + "\n")
        text += f"\nwrote {path}"
    click.echo(compact_json(result) if as_json else text)


def _check_usage(corrupted: bool, out: Path | None, plots: bool, options: dict[str, Any]) -> None:
    if plots and out is None:
        raise click.UsageError("--plots needs --out DIR, where the pictures go")
    if corrupted and (options["parts"] or plots):
        raise click.UsageError("corrupted data has no parts and no plots; leave these options out")
    if options["corruptions"] and not corrupted:
        raise click.UsageError("--corruption is for cifar10-c:, cifar100-c: and imagenet-c: data")


def _open(reference: str, options: dict[str, Any]) -> Predictor:
    from ..errors import ConfigError
    from ..references import is_artefact
    from .predicting import load_predictor

    if not options["mc_samples"]:
        return load_predictor(reference, options["provider"])
    if is_artefact(reference):
        raise ConfigError("exported files have MC dropout off; --mc-samples needs a model")
    import torch

    from ..factory import create_model
    from ..prediction import Predictor

    torch.manual_seed(options["seed"])
    return Predictor.from_model(
        create_model(reference, pretrained=True), mc_samples=options["mc_samples"]
    )


def _about(reference: str, predictor: Predictor, options: dict[str, Any]) -> dict[str, Any]:
    """What was evaluated: name and digests of the model, and how it was run."""
    from ..files import sha256_file
    from ..references import is_artefact

    about = {"model": predictor.name, "weights_sha256": predictor.weights_sha256}
    if is_artefact(reference):
        about |= {"file": Path(reference).name, "file_sha256": sha256_file(reference)}
    if options["mc_samples"]:
        about |= {"mc_samples": options["mc_samples"]}
    return about


def _folder(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "model"


def _file_name(reference: str, corrupted: bool) -> str:
    from ..references import is_artefact

    kind = "corruptions" if corrupted else "accuracy"
    return f"{kind}-{Path(reference).name}.json" if is_artefact(reference) else f"{kind}.json"


def _settings(predictor: Predictor, options: dict[str, Any]) -> dict[str, Any]:
    logits = functools.partial(predictor.logits, batch_size=options["batch_size"])
    names = ("definition", "batch_size", "on_unreadable")
    return {
        "logits": logits, "labels": predictor.labels, **{name: options[name] for name in names}
    }  # fmt: skip


def _evaluate(
    predictor: Predictor, data: str, quiet: bool, options: dict[str, Any]
) -> list[Evaluation]:
    from ..datasets import available_parts, open_dataset
    from ..evaluation import evaluate

    available = available_parts(data)
    parts = options["parts"] or (("test",) if "test" in available else available[-1:])
    settings = _settings(predictor, options)
    found = []
    for dataset in [open_dataset(data, part) for part in parts]:
        with progress(len(dataset), dataset.name, quiet) as advance:
            found.append(evaluate(dataset=dataset, on_batch=advance, **settings))
    return found


def _evaluate_corruptions(
    predictor: Predictor, data: str, quiet: bool, options: dict[str, Any]
) -> CorruptionEvaluation:
    from ..corruption_evaluation import evaluate_corruptions
    from ..datasets import CORRUPTIONS, SEVERITIES, open_corruptions

    names = options["corruptions"] or CORRUPTIONS
    sets = open_corruptions(data, names)
    settings = _settings(predictor, options)
    with progress(len(names) * len(SEVERITIES), data.partition(":")[0], quiet) as advance:
        return evaluate_corruptions(sets=sets, on_set=lambda *_: advance(1), **settings)


def _draw(evaluations: list[Evaluation], folder: Path) -> str:
    from ..analysis.plots.evaluation import plot_confusion, plot_reliability

    lines = [""]
    for found in evaluations:
        stem = _folder(found.dataset)
        for kind, draw in (("reliability", plot_reliability), ("confusion", plot_confusion)):
            path = folder / f"{kind}-{stem}.png"
            draw(found, path)
            lines.append(f"drew {path}")
    return "\n".join(lines)
