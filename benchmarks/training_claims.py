"""Tables and sentences of docs/analyses on what many trainings show, or one over its epochs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
Found = dict[str, Any]


def models_of(rows: Rows) -> dict[str, Rows]:
    """Rows by model."""
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(row["model"], []).append(row)
    return groups


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean."""
    kept = list(values)
    return sum(kept) / len(kept)


def verdict(claim: str, share: float) -> str:
    """How far a claim of a paper is seen: in at least three quarters of the cases, or in at most
    one.
    """
    word = "seen" if share >= 0.75 else "not seen" if share <= 0.25 else "seen in part only"
    return f"The papers' claim that {claim} is {word} on these models."


def vit_below_resnet(values: dict[str, float], claim: str) -> Any:
    """A verdict on a claim that a ViT has less of something than a ResNet."""
    vit, resnet = values.get("hdvw_vit_nano.digits"), values.get("resnet_nano.digits")
    if vit is not None and resnet is not None:
        yield verdict(claim, float(vit < resnet))


def without(*keys: str) -> Callable[[Found], Rows]:
    """A table of the rows without some columns."""
    return lambda found: [
        {key: value for key, value in row.items() if key not in keys} for row in found["rows"]
    ]


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


def first_and_last(results: Rows) -> Rows:
    """Of runs with diagnostics: each layer's means over heads in the first and the last epoch."""
    rows: Rows = []
    for result in results:
        epochs = [entry["epoch"] for entry in result["epochs"]]
        for entry in result["epochs"]:
            if entry["epoch"] in (min(epochs), max(epochs)):
                rows.append(
                    {
                        "model": result["model"],
                        "layer": entry["name"],
                        "epoch": entry["epoch"],
                        "gate": mean(entry["gates"]) if entry["gates"] else None,
                        "nonlocality": mean(entry["nonlocality"]),
                    }
                )
    return sorted(rows, key=lambda row: (row["model"], row["layer"], row["epoch"]))


def name_by_setting(found: Found, sweep: Path, setting: str) -> None:
    """Call the models of `RUNS/*seed0` by what sets them apart, e.g. "kernel size 3"."""
    rows = json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))["rows"]
    values = {row["run"]: row["settings"][setting] for row in rows if row["seed"] == 0}
    label = setting.replace("_", " ")
    names = {
        result["model"]: f"{label} {values[run]}"
        for result, run in zip(found["results"], sorted(values), strict=True)
    }
    for entry in (*found["rows"], *found["summary"]):
        entry["model"] = names[entry["model"]]


def _gates_epochs(found: Found) -> Any:
    for model, rows in models_of(found["rows"]).items():
        moves = [
            f"{first['nonlocality']:.2f} to {last['nonlocality']:.2f}"
            for first, last in zip(rows[::2], rows[1::2], strict=True)
        ]
        yield f"`{model}`: nonlocality over training, layer by layer: {', '.join(moves)} patches."
    gates = [row["gate"] for row in found["rows"] if row["gate"] is not None]
    yield f"Mean gates stay between {min(gates):.2f} and {max(gates):.2f} in all epochs shown."


TABLES: dict[str, Callable[[Found], Rows]] = {
    "sample-efficiency": _sweep_table("fraction", "model"),
}
CLAIMS: dict[str, Callable[[Found], Any]] = {
    "sample-efficiency": _sample_efficiency,
    "kernel-size": _kernel_size,
    "gates-epochs": _gates_epochs,
}
