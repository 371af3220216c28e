"""embed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..files.json_text import to_json
from ._batch import (
    check_rows,
    engine_options,
    ray_engine,
    rows_options,
    rows_progress,
    rows_text,
    write_source,
)
from ._given import given_options
from ._options import model_options, provider_option, say, trust_option, unreadable_option
from ._references import ModelReference
from .predict import load_predictor

if TYPE_CHECKING:
    from ..evaluation.predictor import Predictor


@click.command("embed")
@click.argument("model", type=ModelReference())
@click.option(
    "--data",
    required=True,
    metavar="SOURCE",
    help="Folder of images, list of files (.txt), or parquet files or tar archives in a folder.",
)
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    help="FILE.npz of a folder, or a folder of parts FILE.parquet, FILE.csv or FILE.jsonl.",
)
@provider_option()
@trust_option()
@model_options()
@unreadable_option()
@rows_options()
@engine_options()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def embed_command(
    model: str,
    data: str,
    out: str,
    provider: str,
    trust_code: bool,
    keywords: dict[str, Any],
    weights: str | None,
    resume: bool,
    overwrite: bool,
    column: str,
    cluster: dict[str, Any] | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write what MODEL sees in images before its classifier.

    MODEL is a name, a directory, or an exported model_embeddings.onnx, which needs no torch.
    FILE.npz holds the arrays features (images, width), files and model; rows have the columns path,
    features and error.
    """
    from ..evaluation.batch.encoding import SUFFIXES
    from ..evaluation.batch.sources import open_source

    archive = out.lower().endswith(".npz")
    idle = given_options("resume", "overwrite", "column", "workers") if archive else []
    if archive and cluster:
        idle.append("--engine")
    if idle:
        raise click.UsageError(
            f"{', '.join(idle)}: for rows, not for .npz; leave out, or write rows"
        )
    if "num_classes" in keywords:
        raise click.UsageError(
            "embed takes the classifier away: --set num_classes would have no effect; leave it out"
        )
    if not archive:
        if not out.lower().endswith(SUFFIXES):
            raise click.BadParameter(f"{out!r} must end with .npz, {', '.join(SUFFIXES)}")
        check_rows(out, resume, overwrite)
    source = None if archive else open_source(data, column)
    given = {"trust_code": trust_code, "keywords": keywords, "weights": weights}
    if source is None:
        del options["workers"]
        predictor = _embedder(model, provider, **given)
        click.echo(_write_archive(predictor, data, out, as_json, **options))
        return
    keep = {"reference": model, "resume": resume, "overwrite": overwrite}
    opened: Any = (
        _embedder(model, provider, **given)
        if cluster is None
        else ray_engine(_embedder, model, provider, {}, cluster, **given)
    )
    found = write_source(opened, source, out, as_json, topk=None, **keep, **options)
    click.echo(rows_text(found, as_json))


def _embedder(reference: str, provider: str, **given: Any) -> Predictor:
    """A predictor that returns features. Raises: ConfigError for a file of logits."""
    from ..catalog.references import kind_of
    from ..errors import ConfigError

    if kind_of(reference) != "file":
        keywords = {**given.pop("keywords"), "num_classes": 0}
        return load_predictor(reference, provider, keywords=keywords, **given)
    predictor = load_predictor(reference, provider, **given)
    if predictor.origin.get("output") != "pooler_output":
        raise ConfigError(
            f"{reference!r} is an exported file and returns {predictor.origin.get('output')}; "
            "embed takes a name, a directory, or the model_embeddings.onnx of export --embeddings"
        )
    return predictor


def _write_archive(
    predictor: Predictor, folder: str, out: str, as_json: bool, batch_size: int, on_unreadable: str
) -> str:
    from dataclasses import asdict

    from ..data.image_listing import list_folder, skipped_remark, without_unreadable
    from ..evaluation.embeddings import write_embeddings

    listing = list_folder(folder)
    names, skipped = list(listing.names), []
    if on_unreadable == "skip":
        bad = set(without_unreadable(listing.paths)[1])
        skipped = [name for name, path in zip(names, listing.paths, strict=True) if path in bad]
        names = [name for name in names if name not in skipped]
    say(listing.remark(), skipped_remark(skipped))
    with rows_progress(len(names), "embedding", as_json) as advance:
        written = write_embeddings(predictor, folder, names, out, batch_size, advance)
    if as_json:
        return to_json(asdict(written), indent=2, ensure_ascii=False)
    return (
        f"{written.path}: {written.images} images, {written.features} features each, "
        f"by {written.model}"
    )
