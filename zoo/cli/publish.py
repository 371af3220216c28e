"""bundle and publish. This group imports `export`, inside functions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..files.json_text import to_json
from ._console import table
from ._options import unreadable_option
from ._progress import progress, quiet_option
from ._references import ModelReference, complete_data

if TYPE_CHECKING:
    from export.publishing.publish import Publication


MEASURED = Path(__file__).resolve().parents[2] / "model_cards" / "measured"


@click.command("bundle")
@click.argument("model", type=ModelReference())
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option("--version", default="", metavar="X.Y.Z", help="For weights that have no version.")
@click.option("--licence", default="", help="Of the weights, an SPDX name; default: the record's.")
@click.option(
    "--repo", default="", metavar="ORG/NAME", help="For the card; publish puts in its own."
)
@click.option(
    "--card",
    type=click.Path(path_type=Path),
    help="What only you know, in sections; default: CARD.md of the training run MODEL.",
)
@click.option(
    "--data",
    shell_complete=complete_data,
    metavar="NAME|DIR",
    help="Labelled images that int8 is judged on.",
)
@unreadable_option()
@click.option(
    "--measured",
    type=click.Path(path_type=Path),
    help="Folder that `evaluate --out` wrote; default: model_cards/measured of the repository.",
)
@click.option(
    "--quantized/--no-quantized",
    default=True,
    help="With a dynamic int8 ONNX file (the default), or without one.",
)
@click.option("--overwrite", is_flag=True, help="Replace a finished directory.")
@quiet_option()
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def bundle_command(
    model: str,
    out: Path,
    version: str,
    licence: str,
    repo: str,
    card: Path | None,
    data: str | None,
    on_unreadable: str,
    measured: Path | None,
    quantized: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Export MODEL and write all that a Hub repository of it needs: config for timm, image
    processor, card, licence, provenance, manifest.

    For a training run the card tells its data, recipe, accuracy and curves, and what you wrote into
    its CARD.md; a draft's prompts that are left over are refused.
    """
    from export.publishing.bundle import measured_metrics, write_bundle

    if data and not quantized:
        raise click.UsageError("--data is what int8 is judged on; give it or --no-quantized")
    from ..catalog.references import is_registered
    from .export import load_for_export
    from .verify import parity_table

    loaded = load_for_export(model, {})
    name = loaded.pretrained_cfg.name
    folder = measured or (MEASURED if (MEASURED / name / "accuracy.json").is_file() else None)
    metrics = measured_metrics(folder, name) if folder is not None else ()
    precisions = ("int8",) if quantized else ()
    place = None if is_registered(model) else Path(model)
    run = place if place is not None and (place / "metrics.json").is_file() else None
    with progress(quiet or as_json):
        result = write_bundle(
            loaded, out, version=version, licence=licence, repo=repo, run=run, card=card,
            metrics=metrics, measured=folder, precisions=precisions, data=data,
            on_unreadable=on_unreadable, exported=place, overwrite=overwrite,
        )  # fmt: skip
    if as_json:
        click.echo(result.manifest.to_json().rstrip())
        return
    click.echo(f"{result.report.name}, against its float64 reference:")
    click.echo(parity_table(result.report))
    if not metrics and run is None:
        click.echo("no accuracy is on the card: run `convattn evaluate MODEL --out DIR`, then")
        click.echo("bundle again with --measured DIR; publish insists on it")
    total = sum(size for _, size, _ in result.manifest.files)
    click.echo(f"wrote {len(result.manifest.files) + 2} files ({total / 1e6:.1f} MB) to {out}")
    tag = f"v{result.manifest.version}" if result.manifest.version else "vX.Y.Z"
    click.echo(f"next: convattn publish {out} --repo {repo or 'ORG/NAME'} --tag {tag}")


@click.command("publish")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--repo", required=True, metavar="ORG/NAME", help="Repository; created if needed.")
@click.option("--tag", required=True, metavar="vX.Y.Z", help="The bundle's version.")
@click.option("--private", is_flag=True, help="Create the repository as a private one.")
@click.option(
    "--dry-run/--yes",
    "dry_run",
    default=True,
    help="Say what would be sent (the default), or send it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def publish_command(
    bundle: Path, repo: str, tag: str, private: bool, dry_run: bool, as_json: bool
) -> None:
    """Send BUNDLE to a repository on the Hub as one commit with one tag.

    Refused are bundles whose parity failed, whose files differ from the manifest, whose card lacks
    licence, sources of its numbers or citation, or that hold a pickle other than model.pt. The same
    bytes again change nothing; a tag that exists with other bytes is an error.
    """
    from export.publishing.publish import publish

    def say(line: str) -> None:
        click.echo(line, err=True)

    result = publish(bundle, repo, tag, private=private, dry_run=dry_run, progress=say)
    if as_json:
        click.echo(to_json(result.to_dict(), indent=2, ensure_ascii=False))
        return
    _show(result, dry_run, private)


def _show(result: Publication, dry_run: bool, private: bool) -> None:
    if dry_run:
        rows = [(path, f"{size:,}", digest) for path, size, digest in result.files]
        click.echo(table(("file", "bytes", "SHA-256"), rows, right=(1,)))
        total = sum(size for _, size, _ in result.files)
        kind = "private " if private else ""
        click.echo(f"every check passed; {len(result.files)} files ({total / 1e6:.1f} MB) would go")
        click.echo(
            f"to the {kind}repository {result.repo} as {result.tag}; nothing was sent (--yes)"
        )
        return
    done = "published" if result.changed else "nothing to do: the same bytes are there already:"
    click.echo(f"{done} {result.repo} {result.tag} at commit {result.commit}")
    click.echo("the record, for the catalogue or a CONVATTN_CATALOG file:")
    click.echo(to_json([result.record], indent=2, ensure_ascii=False))


@click.command("card")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--all", "everything", is_flag=True, help="All weights that load by name, and README."
)
@click.option(
    "--measured",
    type=click.Path(path_type=Path),
    default=MEASURED,
    help="Folder of measured files; default: model_cards/measured of the checkout.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write OUT/NAME.md with its pictures and .eval_results files instead of printing it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the facts of the card as JSON.")
def card_command(
    names: tuple[str, ...], everything: bool, measured: Path, out: Path | None, as_json: bool
) -> None:
    """Render the model card of NAME (ARCH[.TAG][@X.Y.Z]) from its record and what was measured.

    What was not measured says so. A measured file of other weights is an error.
    """
    from export.cards.document import cards, render, write_card
    from export.cards.facts import facts_of, require_measured
    from export.cards.index import index

    from ..files.local import write_text

    measured = require_measured(measured)
    _check_usage(names, everything, out, as_json)
    for name in cards() if everything else names:
        if out is None:
            facts = facts_of(name, measured)
            click.echo(_json(facts) if as_json else render(facts).rstrip())
            continue
        written = write_card(name, measured, out)
        click.echo(f"wrote {written[0]} and {len(written) - 1} files for it")
    if everything and out is not None:
        write_text(out / "README.md", index(measured))
        click.echo(f"wrote {out / 'README.md'}")


def _check_usage(names: tuple[str, ...], everything: bool, out: Path | None, json: bool) -> None:
    if bool(names) == everything:
        raise click.UsageError("give one or more names, or --all")
    if everything and out is None:
        raise click.UsageError("--all needs --out DIR")
    if json and (out is not None or len(names) > 1):
        raise click.UsageError("--json prints one card's facts; leave --out and further names out")


def _json(facts: object) -> str:
    from dataclasses import asdict

    from export.cards.facts import CardFacts

    assert isinstance(facts, CardFacts)
    content = {
        "name": facts.name,
        "version": facts.cfg.version,
        "weights_sha256": facts.cfg.sha256,
        "accuracy": facts.accuracy,
        "training": facts.training,
        "parity": {entry.file: entry.report.summary() for entry in facts.parity},
        "speed": list(facts.speed),
        "published": [asdict(metric) for metric in facts.published],
    }
    return to_json(content, indent=2, ensure_ascii=False)
