"""predict."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from ._options import provider_option
from ._text import table

if TYPE_CHECKING:
    from ..prediction import Prediction, Predictor


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
@provider_option()
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
    model: str, images: tuple[str, ...], topk: int, provider: str, as_json: bool, **settings: Any
) -> None:
    """Classify IMAGES (files or folders) with MODEL: a name, a directory, or a .onnx, .pt or .pt2
    file.
    """
    from ..preprocessing import list_images
    from ._limits import is_limited, run_limited

    if settings["untrusted"] and not is_limited():
        rest = ["--json"] if as_json else []
        rest += ["--topk", str(topk), "--threads", str(settings["threads"])]
        rest += ["--like", settings["like"], "--untrusted", "--provider", provider]
        rest += ["--precision", settings["precision"]] if settings["precision"] else []
        sys.exit(run_limited(["predict", *rest, "--", model, *images]))
    given = {key: value for key, value in settings.items() if value}
    files = list_images(list(images))
    predictions = load_predictor(model, provider, given).predict(files, topk)
    if as_json:
        entries = [
            {"image": file, **found.to_dict()}
            for file, found in zip(files, predictions, strict=True)
        ]
        click.echo(json.dumps(entries, indent=2, ensure_ascii=False))
        return
    rows = [row for pair in zip(files, predictions, strict=True) for row in _rows(*pair)]
    click.echo(table(("image", "label", "probability"), rows, right=(2,)))


def _rows(file: str, found: Prediction) -> Iterator[tuple[str, str, str]]:
    """A line for each answer; the file stands on the first one."""
    for label, probability in zip(found.labels, found.probabilities, strict=True):
        yield file, label, f"{100 * probability:.1f} %"
        file = ""
