"""list, info, cite: what the registry knows. No torch."""

from __future__ import annotations

import json

import click

from ..costs import read_costs
from ..errors import UnknownModelError
from ..records import CheckpointRecord, ModelRecord, WeightsRecord
from ..registry import get_record, list_models
from ._text import count, table


@click.command("list")
@click.argument("pattern", default="")
@click.option("--pretrained", is_flag=True, help="Only models whose weights load without import.")
@click.option("--family", help="Only this family.")
@click.option("--aliases", is_flag=True, help="Also the originals' names, e.g. hdvw:resnet_50.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(
    pattern: str, pretrained: bool, family: str | None, aliases: bool, as_json: bool
) -> None:
    """Show the models. PATTERN is a shell pattern such as 'convit*'."""
    names = list_models(pattern, family=family, pretrained=pretrained, aliases=aliases)
    records = [get_record(name) for name in names]
    if not records and pattern:
        get_record(pattern)  # raises with the nearest names, unless it is a pattern
        raise UnknownModelError(f"no model matches {pattern!r}; `convattn list` shows all")
    if as_json:
        click.echo(json.dumps([_entry(r, _cost(r)) for r in records], indent=2))
        return
    rows = [_row(r, _cost(r)) for r in records]
    click.echo(table(("model", "params", "MACs", "input", "weights", "about"), rows, right=(1, 2)))


def _row(record: ModelRecord, cost: dict[str, int]) -> tuple[str, ...]:
    height, width = record.input.size
    return (
        record.alias or record.name,
        count(cost["params"]) if cost else "",
        count(cost["macs"]) if cost else "",
        f"{height}x{width}",
        _tags(record) or "-",
        f"{record.name} {_keywords(record)}" if record.alias else record.description,
    )


def _cost(record: ModelRecord) -> dict[str, int]:
    """Parameters and MACs; unknown for an alias, whose keywords change both."""
    return {} if record.alias else read_costs().get(record.name, {})


def _keywords(record: ModelRecord) -> str:
    return " ".join(f"{key}={value!r}" for key, value in record.alias_config.items())


def _tags(record: ModelRecord) -> str:
    """Tags of the weights; those that need `convattn import` first say so."""
    loads = {weights.tag for weights in record.weights}
    return ", ".join(tag if tag in loads else f"{tag} (import)" for tag in record.tags)


def _entry(record: ModelRecord, cost: dict[str, int]) -> dict[str, object]:
    return {
        "name": record.alias or record.name,
        "model": record.name,
        "family": record.family.name,
        "params": cost.get("params"),
        "macs": cost.get("macs"),
        "input": record.input.to_dict(),
        "tags": list(record.tags),
        "description": record.description,
    }


def _weights(record: ModelRecord) -> list[dict[str, object]]:
    """Weights that load by name."""
    return [
        {
            "name": w.name,
            "dataset": w.dataset,
            "size_bytes": w.size_bytes or None,
            "sha256": w.sha256,
            "where": _where(w),
            "licence": w.licence or record.family.licence.weights,
            "architecture_versions": list(w.architecture_versions),
            "recipe": f"{w.recipe}, seed {w.seed}" if w.recipe else "",
            "published": _published(w),
        }
        for w in record.weights
    ]


def _where(weights: WeightsRecord) -> str:
    if weights.bundled:
        return "in this package"
    pin = "pinned on first use" if weights.pinned_on_first_use else f"at {weights.revision}"
    return f"{weights.repo}, {weights.file}, {pin}"


def _checkpoints(record: ModelRecord) -> list[dict[str, object]]:
    """Files that must be imported, or can be."""
    return [
        {
            "name": c.name,
            "how": f"convattn import FILE --model {c.name} --out DIR",
            "dataset": c.dataset,
            "where": c.where,
            "licence": c.licence or record.family.licence.weights,
            "published": _published(c),
        }
        for c in record.checkpoints
    ]


def _published(record: WeightsRecord | CheckpointRecord) -> list[str]:
    return [f"{m.name} {m.value} on {m.dataset} ({m.source})" for m in record.metrics]


@click.command("info")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info_command(model: str, as_json: bool) -> None:
    """Show everything the registry knows about MODEL."""
    record = get_record(model)
    cost = _cost(record)
    family, chosen = record.family, record.selected
    weights, checkpoints = _weights(record), _checkpoints(record)
    facts = {
        **_entry(record, cost),
        "architecture_version": family.version,
        "config": dict(record.config),
        "paper": family.paper,
        "upstream": family.upstream,
        "code_licence": family.licence.code,
        "weights_licence": family.licence.weights,
        "licence_note": family.licence.note,
        "selected_weights": chosen.name if chosen else None,
        "weights": weights,
        "checkpoints": checkpoints,
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        if key in ("weights", "checkpoints") or value in ("", None, {}, []):
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        click.echo(f"{key.replace('_', ' '):22}{text}")
    for entry in (*weights, *checkpoints):
        click.echo(f"\n{entry.pop('name')}")
        for key, value in entry.items():
            if value not in ("", [], None):
                text = ", ".join(map(str, value)) if isinstance(value, list) else value
                click.echo(f"  {key.replace('_', ' '):24}{text}")


@click.command("cite")
@click.argument("model")
def cite_command(model: str) -> None:
    """Print whom to cite for MODEL, as BibTeX; comments say which layer comes from where."""
    from ..lineage import bibtex_of, lineage_of

    record = get_record(model)
    lineage = lineage_of(record)
    notes = [record.family.cite_note]
    if lineage is not None:
        notes += [f"{lineage.layer}: {lineage.what}", lineage.origin, lineage.contrast]
    for note in filter(None, notes):
        click.echo(f"% {note}")
    click.echo(bibtex_of(record))
