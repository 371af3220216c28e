"""The generated parts of docs/performance.md, from JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import tables
from .limits import explained


def _counted(rows: list[dict[str, Any]]) -> str:
    met = sum(row["met"] is True for row in rows)
    return f"{met} of {len(rows)} goals are met."


def goals() -> str:
    """Every goal."""
    rows = tables.all_rows()
    text = tables.markdown(tables.HEADER, [tables.cells(row) for row in rows])
    return f"{text}\n\n{_counted(rows)}"


def missed() -> str:
    """What limits each goal that is missed."""
    return explained(tables.all_rows())


def models() -> str:
    """`bench model`: one table over all models."""
    lines = [
        (
            f"`{model['name'].removesuffix('.random')}`",
            row["by"],
            *(f"{row[key]:.1f}" for key in ("median_ms", "p90_ms", "p99_ms")),
            f"{row['images_per_s']:.1f}",
            f"{row['of_eager']['value']:.2f}",
        )
        for model in tables.speeds()
        for row in model["candidates"]
    ]
    header = ("model, batch 1", "run by", "p50 ms", "p90 ms", "p99 ms", "images/s", "of eager")
    return tables.markdown(header, lines)


def exports() -> str:
    """`bench export`."""
    found = tables.read("export")
    return tables.markdown(("convit_tiny", *found["exports"]), tables.export_cells(found))


def start() -> str:
    """`bench start`: whole processes."""
    lines = [
        (f"`{name}`", f"{times['median_ms']:.0f} ms", f"{times['min_ms']:.0f} ms")
        for name, times in tables.read("start")["processes"].items()
    ]
    return tables.markdown(("process", "median", "minimum"), lines)


def loading() -> str:
    """`bench load`: the cost of a verified load, by steps."""
    found = tables.read("load")
    steps = {**found["steps"], "create + load, less the SHA-256 pass": found["without_digest"]}
    lines = [
        (name, f"{times['median_ms']:.0f} ms", f"{times['min_ms']:.0f} ms")
        for name, times in steps.items()
    ]
    size = found["size_bytes"] / 1e6
    return tables.markdown((f"`{found['name']}`, {size:.0f} MB", "median", "minimum"), lines)


def measured_on() -> str:
    """Machine, versions, threads and parent commits of all files."""
    groups = tables.read("attention")["groups"]
    files = {f"attention, {name}": found for name, found in groups.items()}
    runs = {(found["command"], found["parent_commit"]): found for found in tables.speeds()}
    files |= {f"model, run {n}": found for n, found in enumerate(runs.values(), 1)}
    files |= {name: tables.read(name) for name in ("export", "start", "load")}
    return "\n".join(f"- **{name}**: {_origin(found)}." for name, found in files.items())


def _origin(found: dict[str, Any]) -> str:
    """Machine, versions, commit and command of a file."""
    known = ("python", "torch", "timm", "onnxruntime-gpu", "onnxruntime")
    versions = ", ".join(f"{k} {found['versions'][k]}" for k in known if k in found["versions"])
    machine = f"{found['machine']['cpu']}, {found['machine']['cores']} cores"
    commit = found["parent_commit"][:12]
    return f"{machine}; {versions}; after commit `{commit}`: `{found['command']}`"


PARTS: dict[str, Callable[[], str]] = {
    "goals": goals,
    "missed": missed,
    "models": models,
    "exports": exports,
    "start": start,
    "loading": loading,
    "measured-on": measured_on,
}
