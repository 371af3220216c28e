"""predict."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ._text import table

if TYPE_CHECKING:
    from ..prediction import Predictor


def load_predictor(
    reference: str, provider: str = "cpu", settings: Mapping[str, Any] | None = None
) -> Predictor:
    """A predictor for any model reference, eager or exported.

    Args:
        settings: keywords of `export.open_predictor`; they choose the exported file of a directory.
    """
    from ..errors import ConfigError
    from ..references import is_artefact

    exported = bool(settings) or provider != "cpu"
    if is_artefact(reference) or (exported and os.path.isdir(reference)):
        from export import open_predictor

        return open_predictor(reference, provider, **(settings or {}))
    if exported:
        raise ConfigError(
            "--provider, --precision, --threads, --like and --untrusted are for exported files; "
            "pass DIR or DIR/onnx/model.onnx as the model"
        )
    from ..factory import create_model
    from ..prediction import Predictor

    return Predictor.from_model(create_model(reference, pretrained=True))


@click.command("predict")
@click.argument("model")
@click.argument("images", nargs=-1, required=True)
@click.option("--topk", default=3, show_default=True, type=click.IntRange(1), help="Answers.")
@click.option(
    "--provider",
    default="cpu",
    show_default=True,
    type=click.Choice(["cpu", "cuda", "tensorrt"]),
    help="Where an exported file runs.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "int8"]),
    help="Run the exported file of that precision; MODEL is the directory of an export.",
)
@click.option("--threads", default=0, type=click.IntRange(0), help="Of an exported file; 0: auto.")
@click.option("--like", default="", metavar="NAME", help="Prepare images as for that model.")
@click.option("--untrusted", is_flag=True, help="Bound what a foreign .onnx may compute and use.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict_command(
    model: str,
    images: tuple[str, ...],
    topk: int,
    provider: str,
    precision: str | None,
    threads: int,
    like: str,
    untrusted: bool,
    as_json: bool,
) -> None:
    """Classify IMAGES (files or folders) with MODEL: a name, a directory, or a .onnx, .pt or .pt2
    file.
    """
    from ._limits import is_limited, run_limited

    if untrusted and not is_limited():
        rest = ["--json"] if as_json else []
        rest += ["--topk", str(topk), "--threads", str(threads), "--like", like, "--untrusted"]
        sys.exit(run_limited(["predict", *rest, "--provider", provider, "--", model, *images]))
    settings: dict[str, Any] = {
        key: value
        for key, value in (
            ("precision", precision), ("threads", threads), ("like", like),
            ("untrusted", untrusted),
        )
        if value
    }  # fmt: skip
    from ..preprocessing import list_images

    files = list_images(list(images))
    predictions = load_predictor(model, provider, settings).predict(files, topk)
    if as_json:
        entries = [
            {"image": file, **found.to_dict()}
            for file, found in zip(files, predictions, strict=True)
        ]
        click.echo(json.dumps(entries, indent=2, ensure_ascii=False))
        return
    rows = [
        (file, label, f"{100 * probability:.1f} %")
        if place == 0
        else ("", label, f"{100 * probability:.1f} %")
        for file, found in zip(files, predictions, strict=True)
        for place, (label, probability) in enumerate(
            zip(found.labels, found.probabilities, strict=True)
        )
    ]
    click.echo(table(("image", "label", "probability"), rows, right=(2,)))
