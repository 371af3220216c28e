"""fetch, pin, cache: what lies on this machine, and where it comes from. No torch."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from ..errors import ConfigError, IntegrityError, UnknownModelError
from ..files.json_text import to_json
from ._console import table


@click.command("fetch")
@click.argument("model")
@click.option("--to", type=click.Path(path_type=Path), help="Also write it there, as a mirror.")
@click.option("--all", "everything", is_flag=True, help="Every file of the bundle, ONNX included.")
@click.option("--offline", is_flag=True, help="Use the cache only; make no request.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fetch_command(
    model: str, to: Path | None, everything: bool, offline: bool, as_json: bool
) -> None:
    """Download and verify the weights of MODEL (ARCH[.TAG][@X.Y.Z] or hf-hub:org/name[@revision]).

    With --to DIR they are also written as a mirror: set CONVATTN_MIRROR to DIR, or to the address
    of a file server that serves it, on machines without internet.
    """
    from ..files.fetch import fetch_model

    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the client is imported, later than this
    result = fetch_model(model, to, everything)
    if as_json:
        click.echo(to_json(result.to_dict(), indent=2))
        return
    rows = [(path, f"{size:,}", digest) for path, size, digest in result.files]
    click.echo(table(("file", "bytes", "SHA-256"), rows, right=(1,)))
    click.echo(f"{result.name} is verified (from {result.where}); it lies in {result.directory}")
    if to is not None and result.where != "package":
        click.echo(f"next: CONVATTN_MIRROR={to} convattn fetch {model} on another machine")


@click.command("pin")
@click.argument("model", required=False)
@click.option("--update", is_flag=True, help="Move the pin to the newest commit.")
@click.option("--remove", is_flag=True, help="Forget the pin; the next load takes a new one.")
@click.option("--json", "as_json", is_flag=True, help="Print the pins as JSON.")
def pin_command(model: str | None, update: bool, remove: bool, as_json: bool) -> None:
    """Pin the weights of MODEL (a name, or a repository ORG/NAME) to commit and digest; without
    MODEL show all pins.

    Weights in other people's repositories, whose digest nobody published, are pinned when they are
    first loaded; this does it ahead of time.
    """
    from ..files.fetch import pin_on_first_use, update_pin
    from ..files.pins import lock_file, read_pins, remove_pin

    if update and remove:
        raise click.UsageError("give one of --update and --remove")
    if model is None:
        pins = list(read_pins().values())
        if update or remove:
            raise ConfigError("name the model whose pin to update or remove")
    elif remove:
        repo, file = _pinnable(model)
        if not remove_pin(repo, file):
            raise UnknownModelError(
                f"there is no pin of {file} of {repo}; `convattn pin` lists them", code="unpinned"
            )
        click.echo(f"forgot the pin of {file} of {repo}", err=as_json)
        pins = list(read_pins().values())
    else:
        pins = [(update_pin if update else pin_on_first_use)(*_pinnable(model))]
    if as_json:
        click.echo(to_json([asdict(pin) for pin in pins], indent=2))
        return
    rows = [(p.repo, p.file, p.revision, p.sha256) for p in pins]
    click.echo(table(("repository", "file", "commit", "SHA-256"), rows))
    click.echo(f"{len(read_pins())} pins in {lock_file()}")


def _pinnable(model: str) -> tuple[str, str]:
    """Repository and file that a name stands for."""
    from ..catalog.registry import get_record

    if "/" in model:
        return model.removeprefix("hf-hub:"), "model.safetensors"
    weights = get_record(model).selected
    if weights is None or not weights.repo:
        raise ConfigError(f"{model!r} has no weights on the Hub; nothing to pin")
    if not weights.pinned_on_first_use:
        raise ConfigError(f"{weights.name} is pinned by its record already: {weights.revision}")
    return weights.repo, weights.file


@click.group("cache")
def cache_command() -> None:
    """List, verify or remove downloaded files of models."""


@cache_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:
    """Show the cached files of models, and what states their digests."""
    from ..files.cache import list_cache

    files = list_cache()
    if as_json:
        entries = [{**asdict(file), "place": str(file.place)} for file in files]
        click.echo(to_json(entries, indent=2))
        return
    rows = [
        (f.repo, f.commit[:12], f.file, f"{f.size_bytes:,}", f.known_by or "nothing") for f in files
    ]
    header = ("repository", "commit", "file", "bytes", "digest stated by")
    click.echo(table(header, rows, right=(3,)))
    click.echo(f"{len(files)} files, {sum(f.size_bytes for f in files) / 1e6:.1f} MB")


@cache_command.command("verify")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify_command(as_json: bool) -> None:
    """Hash every cached file of a model and compare; exit 4 if one differs."""
    from ..files.cache import verify_cache

    found = verify_cache()
    bad = [(file, problem) for file, problem in found if problem]
    if bad:
        names = ", ".join(f"{f.file} of {f.repo} at {f.commit[:12]}" for f, _ in bad[:5])
        raise IntegrityError(
            f"{len(bad)} of {len(found)} cached files differ from their digests: {names}; the next "
            "load replaces them, or run `convattn cache remove`",
            code="hash",
        )
    unknown = sum(not file.digest for file, _ in found)
    if as_json:
        click.echo(to_json({"files": len(found), "good": len(found) - unknown, "bad": []}))
        return
    click.echo(f"{len(found) - unknown} files match their digests")
    if unknown:
        click.echo(f"of {unknown} files no digest is known; they are never loaded unverified")


@cache_command.command("remove")
@click.argument("model", required=False)
@click.option("--partial", is_flag=True, help="Partial downloads that killed processes left.")
def remove_command(model: str | None, partial: bool) -> None:
    """Delete the cached files of MODEL: one version by name, a repository ORG/NAME, or one of its
    commits, ORG/NAME@REVISION.
    """
    from ..files.cache import remove_cached, remove_partial

    if (model is None) != partial:
        raise ConfigError("name a model or repository, or give --partial")
    freed = remove_partial() if model is None else remove_cached(model)
    click.echo(f"freed {freed / 1e6:.1f} MB")
