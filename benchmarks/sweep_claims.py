"""Tables and sentences of docs/analyses/sweep.md, made from rows of `convattn analyze sweep`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Rows = list[dict[str, Any]]
Found = dict[str, Any]


def verdict(claim: str, share: float) -> str:
    """How far a claim of a paper is seen: in at least three quarters of the cases, or in at most
    one.
    """
    word = "seen" if share >= 0.75 else "not seen" if share <= 0.25 else "seen in part only"
    return f"The papers' claim that {claim} is {word} on these models."


def _sweep_table(column: str, others: str) -> Callable[[Found], Rows]:
    """One line for each series, one column for each value of a setting: mean (lowest to highest
    seed).
    """

    def rows(found: Found) -> Rows:
        lines: dict[str, dict[str, Any]] = {}
        for row in found["rows"]:
            line = lines.setdefault(row["others"], {others: row["others"]})
            spread = f"{row['acc1_percent']:.1f} ({row['low']:.1f} to {row['high']:.1f})"
            line[_heading(column, row[column])] = spread
        return list(lines.values())

    return rows


def _heading(setting: str, value: Any) -> str:
    return f"{100 * value:g} % of the images" if setting == "fraction" else f"{setting} {value}"


def _shares(found: Found) -> list[dict[str, dict[str, Any]]]:
    """Series by name, for each share of the images."""
    shares: dict[float, dict[str, dict[str, Any]]] = {}
    for row in found["rows"]:
        shares.setdefault(row["fraction"], {})[row["others"]] = row
    return [shares[value] for value in sorted(shares)]


def _sample_efficiency(found: Found) -> Any:
    for points in _shares(found):
        order = sorted(points.values(), key=lambda row: -row["acc1_percent"])
        share = _heading("fraction", order[0]["fraction"])
        names = ", ".join(f"{row['others']} {row['acc1_percent']:.1f}" for row in order)
        yield f"{share}: {names}."
    pairs = [
        (points["model=convit_nano"], points["model=hdvw_vit_nano"]) for points in _shares(found)
    ]
    ahead = [ours["acc1_percent"] > plain["acc1_percent"] for ours, plain in pairs]
    yield verdict("ConViT needs fewer images than a plain ViT", sum(ahead) / len(ahead))


def _kernel_size(found: Found) -> Any:
    rows = sorted(found["rows"], key=lambda row: row["kernel_size"])
    best = max(rows, key=lambda row: row["acc1_percent"])
    points = ", ".join(f"{row['kernel_size']}: {row['acc1_percent']:.1f} %" for row in rows)
    yield f"Test accuracy by kernel size {points}; best with {best['kernel_size']}."
    inside = rows[0]["kernel_size"] < best["kernel_size"] < rows[-1]["kernel_size"]
    yield verdict("a moderate window is better than the smallest and the largest", float(inside))


TABLES: dict[str, Callable[[Found], Rows]] = {
    "sample-efficiency": _sweep_table("fraction", "model"),
}
CLAIMS: dict[str, Callable[[Found], Any]] = {
    "sample-efficiency": _sample_efficiency,
    "kernel-size": _kernel_size,
}
