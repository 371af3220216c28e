"""embed."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ._progress import progress


def _npz(ctx: click.Context, parameter: click.Parameter, value: Path) -> Path:
    if value.suffix != ".npz":
        raise click.BadParameter(f"{str(value)!r} must end with .npz")
    return value


@click.command("embed")
@click.argument("model")
@click.option("--data", required=True, metavar="DIR", help="Folder of images; its folders count.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    callback=_npz,
    help="The .npz file to write.",
)
@click.option(
    "--batch-size", default=32, show_default=True, type=click.IntRange(1), help="Images at once."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def embed_command(model: str, data: str, out: Path, batch_size: int, as_json: bool) -> None:
    """Write what MODEL sees in images before its classifier, with the names of the files.

    OUT holds the arrays features (images, width), files and model: numpy.load(OUT)["features"].
    """
    from dataclasses import asdict

    from ..embeddings import find_images, write_embeddings
    from ..errors import ConfigError
    from ..factory import create_model
    from ..references import is_artefact

    if is_artefact(model):
        raise ConfigError(
            f"{model!r} is an exported file and returns logits; embed takes a name or a directory"
        )
    names = find_images(data)
    network = create_model(model, pretrained=True, num_classes=0)
    with progress(len(names), "embedding", quiet=as_json) as advance:
        written = write_embeddings(network, data, names, out, batch_size, advance)
    if as_json:
        click.echo(json.dumps(asdict(written), indent=2, ensure_ascii=False))
        return
    click.echo(
        f"{written.path}: {written.images} images, {written.features} features each, "
        f"by {written.model}"
    )
