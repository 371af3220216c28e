"""card: model cards from records and measured files. It imports `export`, inside functions."""

from __future__ import annotations

from pathlib import Path

import click

from .publishing import MEASURED


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

    from ..files import write_text

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
    import json
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
    return json.dumps(content, indent=2, ensure_ascii=False)
