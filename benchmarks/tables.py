"""Benchmark results as rows of text: the documents are made from JSON."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import shorten
from typing import Any, TypedDict

import click

from zoo.catalog.checked_json import Document
from zoo.cli._console import table

MEASURED = Path(__file__).resolve().parents[1] / "model_cards" / "measured"
HEADER = ("subject", "against", "goal", "measured", "95 % interval", "")
_WORDS = {
    "faster": ("{} x faster", "{:.2f} x"),
    "slower": ("{} x the time", "{:.2f} x"),
    "less memory": ("{} x less memory", "{:.1f} x"),
    "memory": ("{} x the memory", "{:.3f} x"),
    "file size": ("{} x the size", "{:.3f} x"),
    "share of peak": ("{}", "{:.2f}"),
    "nodes": ("{} nodes", "{:.0f}"),
    "seconds": ("{} s", "{:.3f} s"),
}


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """One goal: subject, peer, goal, value, interval, mark."""
    goal, number = _WORDS[row["quantity"]]
    number = number.removesuffix(" x").removesuffix(" s")
    value, interval = row["value"], row["interval95"]
    shown = "not measured" if value is None else _WORDS[row["quantity"]][1].format(value)
    between = " to ".join(number.format(v) for v in interval) if interval else ""
    mark = {True: "met", False: "MISSED", None: row["note"]}[row["met"]]
    return row["subject"], row["peer"], goal.format(row["goal"]), shown, between, mark


def export_cells(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Our export and timm's: one property per row, one exporter per column."""
    entries = list(found["exports"].values())

    def line(name: str, values: list[str]) -> tuple[str, ...]:
        return (name, *values)

    rows = [
        line("nodes", [str(e["nodes"]) for e in entries]),
        line("file", [f"{e['size_bytes'] / 2**20:.1f} MiB" for e in entries]),
        line("median latency, batch 1", [f"{e['median_ms']:.1f} ms" for e in entries]),
        line("of eager", [f"{e['of_eager']['value']:.2f}" for e in entries]),
        line("largest error against float64", [f"{e['max_abs_error']:.1e}" for e in entries]),
        line("export time", [f"{e['export_s']:.1f} s" for e in entries]),
        line("batch sizes that run", [_running(e["batches"]) for e in entries]),
    ]
    sizes = sorted({key for e in entries for key in e["dynamic_size"]} - {"export"})
    rows.append(
        line(
            "export with dynamic height and width",
            [shorten(e["dynamic_size"].get("export", "written"), 50) for e in entries],
        )
    )
    return rows + [
        line(f"{size} px", [e["dynamic_size"].get(size, "no file") for e in entries])
        for size in sizes
    ]


def _running(outcomes: dict[str, str]) -> str:
    runs = [name for name, outcome in outcomes.items() if outcome.startswith("runs")]
    return ", ".join(runs) or "none"


def read(name: str) -> dict[str, Any]:
    """model_cards/measured/bench-NAME.json."""
    content: dict[str, Any] = json.loads(
        (MEASURED / f"bench-{name}.json").read_text(encoding="utf-8")
    )
    return content


def speeds() -> list[dict[str, Any]]:
    """model_cards/measured/NAME/speed.json of all models that were measured on the CPU."""
    paths = sorted(MEASURED.glob("*/speed.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def load_row(found: dict[str, Any]) -> dict[str, Any]:
    """The goal of loading, from what `bench load` measured of convit_base.

    A row of the same form as the others; the goal is stated in `targets.py`.
    """
    from .targets import target

    step = found["without_digest"]
    return target("load-convit-base").row(step["median_ms"] / 1000, note="")


def all_rows() -> list[dict[str, Any]]:
    """Every goal's row, from the measured files."""
    groups = read("attention")["groups"].values()
    rows = [row for group in groups for row in group["rows"]]
    return [*rows, *read("start")["rows"], load_row(read("load"))]


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def show_rows(rows: list[dict[str, Any]]) -> None:
    """Print goals with values, intervals and marks."""
    click.echo(table(HEADER, [cells(row) for row in rows], right=(3, 4)))
    missed = sum(row["met"] is False for row in rows)
    met = sum(row["met"] is True for row in rows)
    click.echo(f"{met} of {len(rows)} goals met, {missed} missed")


class _Groups(TypedDict):
    groups: dict[str, Any]


_GROUPS = Document(_Groups, "bench file", "bench", "delete it, and measure again")


def kept_groups(out: Path | None) -> dict[str, Any]:
    """Groups of attention that a folder has already."""
    path = out / "bench-attention.json" if out is not None else None
    return {} if path is None or not path.is_file() else _GROUPS.read(path)["groups"]
