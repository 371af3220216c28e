"""bundle and publish. This group imports `export`, inside functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._text import table

if TYPE_CHECKING:
    from export import Publication

MEASURED = Path(__file__).resolve().parents[2] / "model_cards" / "measured"


@click.command("bundle")
@click.argument("model")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option("--version", default="", metavar="X.Y.Z", help="For weights that have no version.")
@click.option("--licence", default="", help="Of the weights, an SPDX name; default: the record's.")
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
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def bundle_command(
    model: str,
    out: Path,
    version: str,
    licence: str,
    measured: Path | None,
    quantized: bool,
    as_json: bool,
) -> None:
    """Export MODEL and write all that a Hub repository of it needs: config for timm, image
    processor, card, licence, provenance, manifest.
    """
    from export import write_bundle
    from export.publication import measured_metrics

    from .exporting import load_for_export, parity_table

    loaded = load_for_export(model, None, None)
    name = loaded.pretrained_cfg.name
    folder = measured or (MEASURED if (MEASURED / name / "accuracy.json").is_file() else None)
    metrics = measured_metrics(folder, name) if folder is not None else ()
    precisions = ("int8",) if quantized else ()
    result = write_bundle(
        loaded, out, version=version, licence=licence, metrics=metrics, measured=folder,
        precisions=precisions,
    )  # fmt: skip
    if as_json:
        click.echo(result.manifest.to_json().rstrip())
        return
    click.echo(f"{result.report.name}, against its float64 reference:")
    click.echo(parity_table(result.report))
    if not metrics:
        click.echo("no accuracy is on the card: run `convattn evaluate MODEL --out DIR`, then")
        click.echo("bundle again with --measured DIR; publish insists on it")
    total = sum(size for _, size, _ in result.manifest.files)
    click.echo(f"wrote {len(result.manifest.files) + 2} files ({total / 1e6:.1f} MB) to {out}")
    tag = f"v{result.manifest.version}" if result.manifest.version else "vX.Y.Z"
    click.echo(f"next: convattn publish {out} --repo ORG/NAME --tag {tag}")


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
    from export import publish

    def progress(line: str) -> None:
        click.echo(line, err=True)

    result = publish(bundle, repo, tag, private=private, dry_run=dry_run, progress=progress)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2, ensure_ascii=False))
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
    click.echo(json.dumps([result.record], indent=2, ensure_ascii=False))
