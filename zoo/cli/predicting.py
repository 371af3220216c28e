"""predict and evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._text import table

if TYPE_CHECKING:
    from ..prediction import Predictor


def load_predictor(reference: str, provider: str = "cpu") -> Predictor:
    """A predictor for any model reference, eager or exported."""
    from ..errors import ConfigError
    from ..references import is_artefact

    if is_artefact(reference):
        from export import open_predictor

        return open_predictor(reference, provider)
    if provider != "cpu":
        raise ConfigError("--provider is for exported files; pass DIR/onnx/model.onnx as the model")
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict_command(
    model: str, images: tuple[str, ...], topk: int, provider: str, as_json: bool
) -> None:
    """Classify IMAGES (files or folders) with MODEL: a name, a directory, or a .onnx or .pt
    file.
    """
    from ..preprocessing import list_images

    files = list_images(list(images))
    predictions = load_predictor(model, provider).predict(files, topk)
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


@click.command("evaluate")
@click.argument("model")
@click.option("--data", required=True, help="'digits': scikit-learn's handwritten digits.")
@click.option(
    "--part",
    "parts",
    multiple=True,
    default=("test",),
    show_default=True,
    type=click.Choice(["train", "validation", "test"]),
    help="Part of the data; repeatable.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Also write OUT/NAME/accuracy.json, with how it was measured.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate_command(
    model: str, data: str, parts: tuple[str, ...], out: Path | None, as_json: bool
) -> None:
    """Measure the accuracy of MODEL (any reference that predict takes)."""
    from ..errors import ConfigError
    from ..evaluation import measure_accuracy
    from ..files import write_text
    from ..measurement import provenance
    from ..training.digits import load_digits

    if data != "digits":
        raise ConfigError(f"--data {data!r} is not supported; this version evaluates on 'digits'")
    predictor = load_predictor(model)
    found = {}
    for part in parts:
        images = load_digits(part)
        found[images.name] = measure_accuracy(
            lambda batch: predictor.logits(list(batch)), images.images, images.targets
        )
    result = {
        "model": predictor.name,
        "results": {name: accuracy.to_dict() for name, accuracy in found.items()},
        **provenance(),
    }
    if out is not None:
        path = out / predictor.name / "accuracy.json"
        write_text(path, json.dumps(result, indent=2) + "\n")
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    for name, accuracy in found.items():
        low, high = accuracy.interval_percent
        click.echo(
            f"{predictor.name} on {name}: {accuracy.percent:.2f} % ({accuracy.correct} of "
            f"{accuracy.total}; {low:.1f} to {high:.1f} at 95 %)"
        )
