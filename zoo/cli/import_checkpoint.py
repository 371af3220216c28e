"""import: a foreign checkpoint becomes a model directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..files.json_text import to_json
from ._console import table
from ._options import model_options, stated, stated_options

if TYPE_CHECKING:
    from ..factory.importing.importing import Import


_TAKEN = ("file", "model", "out", "ema", "overwrite", "stated")  # no constructor keywords


def _show_known(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """--list: published checkpoints that only this verb reads, and where they are."""
    if not wanted or context.resilient_parsing:
        return
    from ..catalog.registry import list_checkpoints

    rows = [(c.name, c.dataset, c.where) for c in list_checkpoints()]
    click.echo(table(("--model", "trained on", "download from"), rows))
    context.exit()


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--model",
    required=True,
    metavar="NAME",
    help="ARCH[.TAG], timm:ARCH[.TAG] or torchvision:NAME; a tag says which weights these are.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="New directory to write."
)
@click.option("--ema", is_flag=True, help="Take the averaged weights of a training checkpoint.")
@model_options(weights=False)
@stated_options()
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_known,
    help="Show the published checkpoints that can be imported, and where they are.",
)
@click.option("--overwrite", is_flag=True, help="Replace a finished directory.")
@click.option("--json", "as_json", is_flag=True, help="Print the provenance as JSON.")
def import_command(
    file: Path,
    model: str,
    out: Path,
    ema: bool,
    keywords: dict[str, Any],
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Turn the checkpoint FILE into a model directory that every verb accepts.

    Reads files of facebookresearch/convit, how-do-vits-work, FCViT and timm, training checkpoints
    and safetensors. Nothing in the file is run, and only tensors are kept.
    """
    from ..factory.importing.importing import import_checkpoint

    taken = sorted(set(_TAKEN) & keywords.keys())
    if taken:
        raise click.UsageError(f"--set {taken[0]} must be KEY=VALUE of a constructor keyword")
    said = stated(options)
    result = import_checkpoint(
        file, model, out, ema=ema, overwrite=overwrite, stated=said, **keywords
    )
    if as_json:
        click.echo(to_json(result.provenance, indent=2))
        return
    _report(result)


def _report(result: Import) -> None:
    facts = result.provenance
    source, licence, published = facts["source"], facts["licence"], facts["published_as"]
    click.echo(f"read {source['file']} ({source['format']}), SHA-256 {source['sha256']}")
    prefix = facts["remap"]["prefix_removed"]
    if prefix:
        click.echo(f"prefix removed from all names: {ascii(prefix)[1:-1]}")
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
