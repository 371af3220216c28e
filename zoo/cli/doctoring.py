"""doctor: what this machine can run."""

from __future__ import annotations

import json
from typing import Any

import click

from ._text import table


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor_command(as_json: bool) -> None:
    """Say which execution providers really load here, and how to repair those that do not."""
    from export.comparison.diagnosis import gpu_report, probe_providers

    from ..measurement import machine, versions

    found: dict[str, Any] = {
        "machine": machine(),
        "versions": versions(),
        "gpu": gpu_report(),
        "providers": probe_providers(),
    }
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"{found['machine']['cpu']}, {found['machine']['cores']} cores")
    click.echo("  ".join(f"{name} {version}" for name, version in found["versions"].items()))
    click.echo("  ".join(f"{name} {value}" for name, value in found["gpu"].items()))
    rows = [
        (name, "runs" if entry["runs"] else "does not run", entry["note"])
        for name, entry in found["providers"].items()
    ]
    click.echo(table(("provider", "here", "note"), rows))
    for repair in dict.fromkeys(entry["repair"] for entry in found["providers"].values()):
        if repair:
            click.echo(f"to repair: {repair}")
