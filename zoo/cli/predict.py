"""predict."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from ..files.json_text import to_json
from ._batch import (
    check_rows,
    engine_options,
    ray_engine,
    rows_options,
    rows_text,
    write_source,
)
from ._console import table
from ._options import (
    like_option,
    loaded_libraries,
    model_options,
    provider_option,
    say,
    trust_option,
    unreadable_option,
)
from ._references import ModelReference

if TYPE_CHECKING:
    from ..evaluation.batch.items import Source
    from ..evaluation.predictor import Prediction, Predictor


def load_predictor(
    reference: str,
    provider: str = "cpu",
    settings: Mapping[str, Any] | None = None,
    *,
    trust_code: bool = False,
    keywords: Mapping[str, Any] | None = None,
    weights: str | None = None,
) -> Predictor:
    """A predictor for any model reference, eager or exported.

    Args:
        settings: keywords of `export.open_predictor`; they choose the exported file of a directory.
        trust_code: run a .pt or .pt2 file that was not exported here.
        keywords, weights: as `zoo.factory.create.load_model` takes them.
    """
    from ..catalog.references import kind_of
    from ..errors import ConfigError

    exported = bool(settings) or provider != "cpu"
    kind = kind_of(reference)
    if exported or kind == "file":
        require_no_keywords(keywords, weights)
    plain = not (keywords or weights)
    chosen = exported or (plain and importlib.util.find_spec("torch") is None)
    if kind == "file" or (chosen and kind == "directory" and os.path.isdir(reference)):
        from export.runtime.opening import open_predictor

        return open_predictor(reference, provider, trust_code=trust_code, **(settings or {}))
    if exported:
        raise ConfigError(
            "--provider, --precision, --threads, --like and --untrusted are for exported files; "
            "pass DIR or DIR/onnx/model.onnx as the model"
        )
    from ..evaluation.predictor import Predictor
    from ..factory.create import load_model

    try:
        return Predictor.from_model(load_model(reference, weights, **(keywords or {})))
    except ConfigError as error:
        if error.code != "own_code" or kind != "directory":
            raise
    from export.runtime.opening import open_predictor

    # made from code that is not run: only its files are
    return open_predictor(reference, trust_code=trust_code)


def require_no_keywords(keywords: Mapping[str, Any] | None, weights: str | None) -> None:
    """Raises: ConfigError for what no exported file can heed."""
    from ..errors import ConfigError

    if keywords or weights:
        raise ConfigError("an exported file is finished: --set and --weights are for models")


@click.command("predict")
@click.argument("model", type=ModelReference())
@click.argument("images", nargs=-1, required=True)
@click.option("--topk", default=3, show_default=True, type=click.IntRange(1), help="Answers.")
@provider_option(
    "Where an exported file runs. With cpu a directory runs its weights in torch if torch is here, "
    "and its file with --precision, --threads or --like."
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "int8"]),
    help="Run the exported file of that precision; MODEL is the directory of an export.",
)
@click.option("--threads", default=0, type=click.IntRange(0), help="Of an .onnx file; 0: auto.")
@like_option()
@click.option("--untrusted", is_flag=True, help="Bound what a foreign .onnx may compute and use.")
@trust_option()
@model_options()
@unreadable_option()
@click.option(
    "--out",
    metavar="ROWS",
    help="Write a row an image into ROWS.parquet, .csv or .jsonl: a folder of parts.",
)
@rows_options()
@engine_options()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict_command(
    model: str,
    images: tuple[str, ...],
    topk: int,
    provider: str,
    on_unreadable: str,
    keywords: dict[str, Any],
    weights: str | None,
    trust_code: bool,
    out: str | None,
    batch_size: int,
    workers: int,
    column: str,
    resume: bool,
    overwrite: bool,
    cluster: dict[str, Any] | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Classify IMAGES with MODEL: a name, a directory, or a .onnx, .pt or .pt2 file.

    IMAGES are files and folders (all images in them and below), or a list of files (.txt), parquet
    files or tar archives, or a folder of those. --out is for many: memory does not grow with them.
    """
    from ..evaluation.batch.sources import open_source
    from ._limited import is_limited, run_limited

    check_rows(out, resume, overwrite)
    if settings["untrusted"] and trust_code:
        raise click.UsageError("--untrusted and --trust-code exclude each other")
    if settings["untrusted"] and cluster is not None:
        raise click.UsageError("--untrusted bounds one process; it is not for --engine ray")
    if settings["untrusted"] and not is_limited():
        require_no_keywords(keywords, weights)
        rest = [word for path in loaded_libraries() for word in ("--provider-library", path)]
        rest += ["--json"] if as_json else []
        rest += ["--topk", str(topk), "--threads", str(settings["threads"])]
        rest += ["--untrusted", "--provider", provider, "--on-unreadable", on_unreadable]
        rest += ["--batch-size", str(batch_size), "--workers", str(workers)]
        texts = {"like": settings["like"], "precision": settings["precision"]}
        for name, text in {**texts, "column": column, "out": out}.items():
            rest += [f"--{name}", text] if text else []
        rest += [*(["--resume"] if resume else []), *(["--overwrite"] if overwrite else [])]
        sys.exit(run_limited(["predict", *rest, "--", model, *images]))
    given = {key: value for key, value in settings.items() if value}
    source = open_source(images, column)
    loading = {"trust_code": trust_code, "keywords": keywords, "weights": weights}
    how = {"batch_size": batch_size, "workers": workers, "on_unreadable": on_unreadable}
    keep = {"reference": model, "resume": resume, "overwrite": overwrite}
    if out is not None and cluster is not None:
        engine = ray_engine(load_predictor, model, provider, given, cluster, **loading)
        found = write_source(engine, source, out, as_json, topk=topk, **keep, **how)
        click.echo(rows_text(found, as_json))
        return
    predictor = load_predictor(model, provider, given, **loading)
    if out is not None:
        found = write_source(predictor, source, out, as_json, topk=topk, **keep, **how)
        click.echo(rows_text(found, as_json))
        return
    say(*source.remarks)
    click.echo(_printed(predictor, source, topk, as_json, **how))


def _printed(predictor: Predictor, source: Source, topk: int, as_json: bool, **options: Any) -> str:
    """The answers for few images."""
    from ..data.image_listing import refuse_none, skipped_remark
    from ..evaluation.batch.stream import answers

    found, skipped = [], []
    for answer in answers(predictor.outputs, predictor.input, source, **options):
        if answer.values is None:
            skipped.append(answer.path)
        else:
            found.append((answer.path, predictor.top(answer.values, topk)))
    refuse_none(len(found), len(skipped))
    say(skipped_remark(skipped))
    if as_json:
        entries = [{"image": path, **top.to_dict()} for path, top in found]
        return to_json(entries, indent=2, ensure_ascii=False)
    rows = [row for pair in found for row in _rows(*pair)]
    return table(("image", "label", "probability"), rows, right=(2,))


def _rows(file: str, found: Prediction) -> Iterator[tuple[str, str, str]]:
    """A line for each answer; the file stands on the first one."""
    for label, probability in zip(found.labels, found.probabilities, strict=True):
        yield file, label, f"{100 * probability:.1f} %"
        file = ""
