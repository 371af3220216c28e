"""gallery: a static folder in which models run, and are proven, in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from ..files.json_text import to_json
from ._console import table
from ._references import ModelReference


@click.command("gallery")
@click.argument("models", type=ModelReference(), nargs=-1)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option("--samples", metavar="PATH", help="Images to offer, ten at most: a file or a folder.")
@click.option("--runtime", metavar="FILE", help="Tarball of onnxruntime-web; default: npm's.")
@click.option("--smallest", is_flag=True, help="Pack the runtime 4 % smaller, in half a minute.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def gallery_command(
    models: tuple[str, ...],
    out: Path,
    samples: str | None,
    runtime: str | None,
    smallest: bool,
    as_json: bool,
) -> None:
    """Write a page per model that runs it in the visitor's browser, and proves it there.

    MODELS are names or directories of your own exports; default: every model whose weights lie in
    the package. The folder is static: serve it from any path.
    """
    from export.publishing.gallery import write_gallery

    found = write_gallery(
        models or _bundled(), out, samples=samples, runtime=runtime, smallest=smallest,
        on_model=lambda name: click.echo(f"{name} ...", err=True),
    )  # fmt: skip
    if as_json:
        loads = dict(found.first_load_bytes)
        click.echo(to_json({"directory": str(out), "first_load_bytes": loads}))
        return
    rows = [(name, f"{size / 1e6:.2f} MB") for name, size in found.first_load_bytes.items()]
    click.echo(table(("model", "first load"), rows, right=(1,)))
    click.echo(f"look at it: python -m http.server -d {out}")


def _bundled() -> tuple[str, ...]:
    from ..catalog.registry import get_record, list_models

    names = list_models(pretrained=True, with_tags=True)
    chosen = [(name, get_record(name).selected) for name in names]
    return tuple(name for name, weights in chosen if weights is not None and weights.bundled)
