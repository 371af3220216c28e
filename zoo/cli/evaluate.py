"""evaluate."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..files.local import write_text
from ._batch import labels_options, rows_progress
from ._console import progress
from ._evaluation_options import check_columns, check_usage
from ._evaluation_text import compact_json, corruption_text, evaluation_text
from ._options import (
    SEED,
    like_option,
    model_options,
    provider_option,
    say,
    trust_option,
    unreadable_option,
)
from ._references import ModelReference, complete_data, other_weights

if TYPE_CHECKING:
    from ..data.dataset import ImageDataset
    from ..evaluation.batch.labelled import LabelledImages
    from ..evaluation.corrupted import CorruptionEvaluation
    from ..evaluation.evaluate import Evaluation
    from ..evaluation.predictor import Predictor


@click.command("evaluate")
@click.argument("model", type=ModelReference())
@click.option(
    "--data",
    shell_complete=complete_data,
    required=True,
    help="digits, fashion_mnist, an image folder, cifar10:DIR, cifar100:DIR, imagenet:DIR, "
    "cifar10-c:DIR, cifar100-c:DIR or imagenet-c:DIR; or a list of files, parquet or tar.",
)
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(["train", "validation", "test", "all"]),
    help="Part of the data; repeatable. Without it: test, or validation if there is no test part; "
    "all of a folder of class folders that MODEL was not trained on.",
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
@click.option(
    "--bins", type=click.IntRange(1), help="Of ECE and ECSE.  [default: 15; how-do-vits-work: 10]"
)
@click.option(
    "--cutoff",
    "cutoffs",
    multiple=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Also accuracy, IoU and frequency above this confidence; repeatable.",
)
@click.option("--mc-samples", type=click.IntRange(1), help="Passes with MC dropout, averaged.")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Of MC dropout's masks.")
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(1))
@model_options()
@unreadable_option()
@labels_options()
@provider_option()
@like_option()
@trust_option()
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

    Labels are the class folders of images; in a list, what follows a tab; in parquet, a column; in
    an archive, the .cls beside each image.

    Accuracy, top-5, calibration (NLL, Brier, ECE, ECSE), IoU and how certain the model is of its
    errors, with 95 % intervals; for corrupted data, a table of accuracies and their mean.
    """
    from ..data.corruptions import KINDS
    from ..files.provenance import provenance

    corrupted = data.partition(":")[0] in KINDS
    check_usage(corrupted, options["mc_samples"])
    predictor = _open(model, options)
    say(other_weights(predictor.name, data))
    result = _about(model, predictor, options)
    how = provenance(options["seed"] if options["mc_samples"] else None)
    folder = (out or Path()) / _folder(predictor.name)
    if corrupted:
        found = _evaluate_corruptions(predictor, data, as_json, options)
        result |= {"data": data.partition(":")[0], **found.to_dict(), **how}
        text = corruption_text(predictor.name, result["data"], found)
    else:
        evaluations = _evaluate(
            predictor, _datasets(model, predictor, data, options), as_json, options
        )
        of = {found.dataset: _images_in(data, found) for found in evaluations}
        result |= {
            "results": {f.dataset: {**f.to_dict(), "of": of[f.dataset]} for f in evaluations}, **how
        }  # fmt: skip
        text = "\n\n".join(
            evaluation_text(predictor.name, found, of[found.dataset]) for found in evaluations
        )
        text += _draw(evaluations, folder) if plots else ""
    if out is not None:
        path = folder / _file_name(model, corrupted)
        write_text(path, compact_json(result) + "\n")
        text += f"\nwrote {path}"
    click.echo(compact_json(result) if as_json else text)


def _open(reference: str, options: dict[str, Any]) -> Predictor:
    from ..catalog.references import kind_of
    from ..errors import ConfigError
    from .predict import load_predictor

    given = {key: options[key] for key in ("keywords", "weights", "trust_code")}
    if not options["mc_samples"]:
        settings = {"like": options["like"]} if options["like"] else None
        return load_predictor(reference, options["provider"], settings, **given)
    if kind_of(reference) == "file":
        raise ConfigError("exported files have MC dropout off; --mc-samples needs a model")
    if options["provider"] != "cpu" or options["like"]:
        raise ConfigError("--mc-samples runs a model in torch; leave --provider and --like out")
    import torch

    from ..evaluation.predictor import Predictor
    from ..factory.create import load_model

    torch.manual_seed(options["seed"])
    return Predictor.from_model(
        load_model(reference, options["weights"], **options["keywords"]),
        mc_samples=options["mc_samples"],
    )


def _about(reference: str, predictor: Predictor, options: dict[str, Any]) -> dict[str, Any]:
    """What was evaluated: name and digests of the model, and how it was run."""
    from ..catalog.references import kind_of
    from ..files.local import sha256_file

    about = {"model": predictor.name, "weights_sha256": predictor.weights_sha256}
    if kind_of(reference) == "file":
        about |= {"file": Path(reference).name, "file_sha256": sha256_file(reference)}
    if options["mc_samples"]:
        about |= {"mc_samples": options["mc_samples"]}
    return about


def _folder(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "model"


def _file_name(reference: str, corrupted: bool) -> str:
    from ..catalog.references import kind_of

    kind = "corruptions" if corrupted else "accuracy"
    file = f"-{Path(reference).name}" if kind_of(reference) == "file" else ""
    return f"{kind}{file}.json"


def _settings(predictor: Predictor, options: dict[str, Any]) -> dict[str, Any]:
    logits = functools.partial(predictor.logits, batch_size=options["batch_size"])
    names = ("definition", "batch_size", "on_unreadable")
    return {
        "logits": logits, "labels": predictor.labels, **{name: options[name] for name in names}
    }  # fmt: skip


def default_parts(reference: str, name: str, data: str) -> tuple[str, ...]:
    """The parts that are measured if none is named: what the model was not trained on.

    Of a folder that the tool splits, the test part where the model was trained on these images (its
    run says so) or is called after the folder, which may have grown since; else all of it.

    Args:
        reference, name: of the model.
        data: specification of the images.
    """
    from ..data.folders import folder_digest, part_folders
    from ..data.opening import available_parts, parse_spec
    from ..training.run import trained_on
    from ..training.start import tag_of

    available = available_parts(data)
    kind, place = parse_spec(data)
    if kind == "folder" and not part_folders(Path(place)):
        digest = trained_on(reference)
        same = digest and digest == folder_digest(place)
        if not same and not name.endswith(f".{tag_of(data)}"):
            return ("all",)
    return ("test",) if "test" in available else available[-1:]


def _images_in(data: str, found: Evaluation) -> int:
    """How many images there are: in the folder, or else in the part."""
    from ..data.opening import open_dataset, parse_spec
    from ..evaluation.batch.sources import is_source

    if not is_source(data) and parse_spec(data)[0] == "folder":
        return len(open_dataset(data, "all"))
    return len(found.outcomes) + len(found.skipped)


def _datasets(
    model: str, predictor: Predictor, data: str, options: dict[str, Any]
) -> list[ImageDataset | LabelledImages]:
    from ..data.opening import open_dataset
    from ..evaluation.batch.labelled import open_labelled
    from ..evaluation.batch.sources import is_source, open_source
    from ..evaluation.batch.stores import shown

    if not is_source(data):
        check_columns(None)
        parts = options["parts"] or default_parts(model, predictor.name, data)
        return [open_dataset(data, part) for part in parts]
    if options["parts"]:
        raise click.UsageError("a list, parquet files and archives have no parts; leave --part out")
    name = Path(shown(data)).name
    source = open_source(data, options["column"])
    check_columns(source)
    return [open_labelled(name, source, predictor.labels, options["label_column"])]


def _evaluate(
    predictor: Predictor,
    datasets: Sequence[ImageDataset | LabelledImages],
    quiet: bool,
    options: dict[str, Any],
) -> list[Evaluation]:
    from ..evaluation.batch.labelled import LabelledImages
    from ..evaluation.evaluate import evaluate

    settings = _settings(predictor, options)
    found = []
    for dataset in datasets:
        is_stream = isinstance(dataset, LabelledImages)
        total = dataset.source.count if is_stream else len(dataset)
        with rows_progress(total, dataset.name, quiet) as advance:
            how = {"bins": options["bins"], "cutoffs": options["cutoffs"]}
            found.append(evaluate(dataset=dataset, on_batch=advance, **how, **settings))
    return found


def _evaluate_corruptions(
    predictor: Predictor, data: str, quiet: bool, options: dict[str, Any]
) -> CorruptionEvaluation:
    from ..data.corruptions import CORRUPTIONS, SEVERITIES, open_corruptions
    from ..evaluation.corrupted import evaluate_corruptions

    names = options["corruptions"] or CORRUPTIONS
    sets = open_corruptions(data, names)
    settings = _settings(predictor, options)
    with progress(len(names) * len(SEVERITIES), data.partition(":")[0], quiet) as advance:
        return evaluate_corruptions(sets=sets, on_set=lambda *_: advance(1), **settings)


def _draw(evaluations: list[Evaluation], folder: Path) -> str:
    from ..analysis.reliability import plot_confusion, plot_reliability

    lines = [""]
    for found in evaluations:
        stem = _folder(found.dataset)
        for kind, draw in (("reliability", plot_reliability), ("confusion", plot_confusion)):
            path = folder / f"{kind}-{stem}.png"
            draw(found, path)
            lines.append(f"drew {path}")
    return "\n".join(lines)
