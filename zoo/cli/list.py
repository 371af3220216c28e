"""list, info, cite: what the registry knows. No torch."""

from __future__ import annotations

import os
from typing import Any

import click

from ..catalog.records import ModelRecord
from ..catalog.references import kind_of
from ..catalog.registry import get_record, list_models
from ..catalog.tables import count, read_costs
from ..catalog.weights_records import CheckpointRecord, WeightsRecord
from ..errors import ConfigError, UnknownModelError
from ..files.json_text import to_json
from ._console import table
from ._options import library_option, model_options
from ._references import ModelReference


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
        click.echo(to_json([_entry(r, _cost(r)) for r in records], indent=2))
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


_LONG = 400  # characters of a nested value that are shown whole


@click.command("info")
@click.argument("model", type=ModelReference())
@model_options(weights=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info_command(model: str, keywords: dict[str, Any], as_json: bool) -> None:
    """Show everything known about MODEL: any reference, an exported file, or a file of weights."""
    if keywords and (kind_of(model) in ("name", "file") or os.path.isfile(model)):
        raise click.UsageError(
            f"--set changes nothing in what is known about {model}; leave it out"
        )
    facts = _registered_facts(model) if kind_of(model) == "name" else _other_facts(model, keywords)
    if as_json:
        click.echo(to_json(facts, indent=2))
        return
    entries = [*facts.pop("weights", ()), *facts.pop("checkpoints", ())] if "tags" in facts else []
    for key, value in facts.items():
        if value in ("", None, {}, []):
            continue
        text = value if isinstance(value, str) else to_json(value)
        if isinstance(value, dict | list) and len(text) > _LONG:
            keys = f" ({', '.join(value)})" if isinstance(value, dict) else ""
            text = f"{len(value)} entries{keys}; --json shows them"
        click.echo(f"{key.replace('_', ' '):22}{text}")
    for entry in entries:
        click.echo(f"\n{entry.pop('name')}")
        for key, value in entry.items():
            if value not in ("", [], None):
                text = ", ".join(map(str, value)) if isinstance(value, list) else value
                click.echo(f"  {key.replace('_', ' '):24}{text}")


def _other_facts(reference: str, keywords: dict[str, Any]) -> dict[str, Any]:
    """Of a place, a file or somebody else's model."""
    from ..factory.facts import WEIGHT_FILES, facts_of, facts_of_weights

    if kind_of(reference) == "file":
        from export.runtime.file_facts import facts_of_file

        return facts_of_file(reference)
    if reference.endswith(WEIGHT_FILES) and os.path.isfile(reference):
        return facts_of_weights(reference)
    return facts_of(reference, keywords)


def _registered_facts(model: str) -> dict[str, Any]:
    record = get_record(model)
    cost = _cost(record)
    family, chosen = record.family, record.selected
    weights, checkpoints = _weights(record), _checkpoints(record)
    return {
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


@click.command("cite")
@click.argument("model", type=ModelReference())
def cite_command(model: str) -> None:
    """Print whom to cite for MODEL, as BibTeX; comments say which layer comes from where."""
    from ..catalog.citations import LIBRARIES, bibtex_of, lineage_of

    record, architecture = _cited(model)
    if record is None:
        kind = architecture.partition(":")[0]
        if kind not in LIBRARIES:
            raise ConfigError(f"{architecture} is code of one's own: only its author can say")
        click.echo(f"% {architecture}: cite the paper of the model, and the library that builds it")
        click.echo(LIBRARIES[kind])
        return
    lineage = lineage_of(record)
    notes = [record.family.cite_note]
    if lineage is not None:
        notes += [f"{lineage.layer}: {lineage.what}", lineage.origin, lineage.contrast]
    for note in filter(None, notes):
        click.echo(f"% {note}")
    click.echo(bibtex_of(record))


def _cited(reference: str) -> tuple[ModelRecord | None, str]:
    """The record of a model, or None and the name of an architecture that others wrote."""
    kind = kind_of(reference)
    if kind == "name":
        return get_record(reference), reference
    if kind in ("timm", "torchvision", "hf", "py"):
        return None, reference
    facts = _other_facts(reference, {})
    architecture = str(facts.get("architecture") or facts.get("says", {}).get("architecture", ""))
    if not architecture:
        raise ConfigError(f"{reference!r} does not say what architecture it holds")
    return (None if ":" in architecture else get_record(architecture)), architecture


@click.command("doctor")
@library_option()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor_command(as_json: bool) -> None:
    """Say which execution providers really load here, and how to repair those that do not."""
    from export.runtime.arithmetic import integer_arithmetic
    from export.runtime.doctor import gpu_report, probe_providers
    from export.runtime.plugins import list_devices

    from ..files.provenance import machine, versions

    found: dict[str, Any] = {
        "machine": machine(),
        "versions": versions(),
        "gpu": gpu_report(),
        "integer_arithmetic": integer_arithmetic(),
        "providers": probe_providers(),
        "ep_devices": list_devices(),
    }
    if as_json:
        click.echo(to_json(found, indent=2))
        return
    click.echo(f"{found['machine']['cpu']}, {found['machine']['cores']} cores")
    click.echo("  ".join(f"{name} {version}" for name, version in found["versions"].items()))
    click.echo("  ".join(f"{name} {value}" for name, value in found["gpu"].items()))
    click.echo(f"products of bytes: {found['integer_arithmetic']}")
    rows = [
        (name, "runs" if entry["runs"] else "does not run", entry["note"])
        for name, entry in found["providers"].items()
    ]
    click.echo(table(("provider", "here", "note"), rows))
    for device in found["ep_devices"]:
        click.echo("device for plugins: " + ", ".join(filter(None, device.values())))
    for repair in dict.fromkeys(entry["repair"] for entry in found["providers"].values()):
        if repair:
            click.echo(f"to repair: {repair}")
