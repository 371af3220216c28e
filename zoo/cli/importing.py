"""import: a foreign checkpoint becomes a model directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._options import json_or_text
from ._text import table

if TYPE_CHECKING:
    from ..importing import Import


_TAKEN = ("file", "model", "out", "ema")  # arguments that are no constructor keywords


def _show_known(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """--list: published checkpoints that only this verb reads, and where they are."""
    if not wanted or context.resilient_parsing:
        return
    from ..registry import list_checkpoints

    rows = [(c.name, c.dataset, c.where) for c in list_checkpoints()]
    click.echo(table(("--model", "trained on", "download from"), rows))
    context.exit()


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--model",
    required=True,
    metavar="NAME",
    help="ARCH[.TAG] or timm:ARCH[.TAG]; a tag says which published weights these are.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="New directory to write."
)
@click.option("--ema", is_flag=True, help="Take the averaged weights of a training checkpoint.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A constructor keyword that the file was made with, e.g. img_size=384. Repeatable.",
)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_known,
    help="Show the published checkpoints that can be imported, and where they are.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the provenance as JSON.")
def import_command(
    file: Path, model: str, out: Path, ema: bool, settings: tuple[str, ...], as_json: bool
) -> None:
    """Turn the checkpoint FILE into a model directory that every verb accepts.

    Reads files of facebookresearch/convit, how-do-vits-work, FCViT and timm, training checkpoints
    and safetensors. Nothing in the file is run, and only tensors are kept.
    """
    from ..importing import import_checkpoint

    result = import_checkpoint(file, model, out, ema=ema, **_keywords(settings))
    if as_json:
        click.echo(json.dumps(result.provenance, indent=2))
        return
    _report(result)


def _keywords(settings: tuple[str, ...]) -> dict[str, Any]:
    """``("img_size=32", ...)`` as keywords. Raises: click.UsageError."""
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.isidentifier() or key in {*found, *_TAKEN}:
            raise click.UsageError(f"--set {setting!r} must be KEY=VALUE, each key once")
        found[key] = json_or_text(text)
    return found


def _report(result: Import) -> None:
    facts = result.provenance
    source, licence, published = facts["source"], facts["licence"], facts["published_as"]
    click.echo(f"read {source['file']} ({source['format']}), SHA-256 {source['sha256']}")
    for what in ("dropped_keys", "dropped_globals", "copied"):
        names = [ascii(name)[1:-1] for name in facts[what]]
        if names:
            more = f" and {len(names) - 6} more" if len(names) > 6 else ""
            click.echo(f"{what.replace('_', ' ')}: {', '.join(names[:6])}{more}")
    if published is not None:
        click.echo(f"taken for {published['name']}, by {published['named_by']}; upstream states no")
        click.echo("digest of that file, so it was compared with nothing")
    stated = licence["weights"] or "not stated"
    click.echo(
        f"licence of the weights, as upstream states it: {stated}. {licence['note']}".strip()
    )
    total = sum(size for _, size, _ in result.manifest.files)
    click.echo(f"wrote {result.name} ({total / 1e6:.1f} MB) to {result.directory}")
    if result.num_classes:
        click.echo(f"next: convattn predict {result.directory} IMAGE")
    else:
        click.echo(f'next: zoo.create_model("{result.directory}", pretrained=True); no classifier')
