"""Tables of docs/analyses, made from measured rows: what a reader needs of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import training_claims
from .training_claims import mean, models_of, without

Rows = list[dict[str, Any]]
Found = dict[str, Any]


def table(verb: str, found: Found) -> list[str]:
    """A Markdown table of the rows that fit a page."""
    rows = _TABLES.get(verb, lambda f: f["rows"])(found)
    header = list(dict.fromkeys(key for row in rows for key in row))
    names = (key if key[0] == "`" or "." in key else key.replace("_", " ") for key in header)
    lines = ["| " + " | ".join(names) + " |"]
    lines.append("|" + "---|" * len(header))
    return lines + ["| " + " | ".join(_cell(row.get(key)) for key in header) + " |" for row in rows]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def of_layers(rows: Rows, keys: tuple[str, ...]) -> Rows:
    """Means over the heads of each layer."""
    groups: dict[tuple[str, str], Rows] = {}
    for row in rows:
        groups.setdefault((row["model"], row["layer"]), []).append(row)
    found = []
    for (model, layer), members in groups.items():
        means = {
            key: mean(r[key] for r in members if r.get(key) is not None)
            for key in keys
            if any(r.get(key) is not None for r in members)
        }
        found.append({"model": model, "layer": layer, "heads": len(members), **means})
    return found


def _groups(*by: str, values: tuple[str, ...], what: str) -> Callable[[Found], Rows]:
    """Per group: how many, and of each value the mean and the range."""

    def summarised(found: Found) -> Rows:
        groups: dict[tuple[Any, ...], Rows] = {}
        for row in found["rows"]:
            groups.setdefault(tuple(row[key] for key in by), []).append(row)
        return [
            {**dict(zip(by, names, strict=True)), what: len(rows), **_ranges(rows, values)}
            for names, rows in groups.items()
        ]

    return summarised


def _ranges(rows: Rows, values: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in values:
        known = [row[key] for row in rows if row.get(key) is not None]
        found[f"{key}, mean"] = mean(known) if known else None
        low, high = (min(known), max(known)) if known else (None, None)
        found["range" if len(values) == 1 else f"{key}, range"] = (
            f"{_cell(low)} to {_cell(high)}" if len(known) > 1 else ""
        )
    return found


def _filters_table(found: Found) -> Rows:
    """Random layers by their sort, those of models by their kind."""
    rows = []
    for row in found["rows"]:
        sort = row["layer"].partition(",")[0] if row["layer"] == row["setting"] else row["kind"]
        rows.append({"model": row["model"], "layers": sort, "gain": row["gain"]})
    return _groups("model", "layers", values=("gain",), what="number")({"rows": rows})


def _hessian_table(found: Found) -> Rows:
    rows = []
    for summary in found["summary"]:
        keys = ("model", "negative_share", "mean_positive", "negative_mass", "converged_share")
        rows.append({key: summary.get(key) for key in (*keys, "parameters", "batch_size")})
    return rows


def _robustness_table(found: Found) -> Rows:
    names = list(dict.fromkeys(r["corruption"] for r in found["rows"]))
    rows = []
    for name in names:
        row: dict[str, Any] = {"corruption": name.replace("_", " ")}
        for model, members in models_of(found["rows"]).items():
            row[model] = mean(r["acc1_percent"] for r in members if r["corruption"] == name)
        rows.append(row)
    return rows


def _noise_table(found: Found) -> Rows:
    """Every second frequency."""
    wanted: dict[tuple[str, float], dict[str, Any]] = {}
    for row in found["rows"]:
        if round(10 * row["frequency_pi"]) % 2:
            continue
        key = (row["test"].replace("_", "-"), row["frequency_pi"])
        line = wanted.setdefault(key, {"test": key[0], "frequency (π)": key[1]})
        line[f"`{row['model'].removesuffix('.digits')}`"] = row["acc1_percent"]
    return list(wanted.values())


_TABLES: dict[str, Callable[[Found], Rows]] = {
    "fourier": _groups("model", "kind", values=("high_frequency", "change"), what="units"),
    "variance": _groups("model", "kind", values=("variance", "ratio"), what="units"),
    "lesion": _groups("model", "kind", values=("drop_percent",), what="units"),
    "filters": _filters_table,
    "specificity": _groups(
        "model", "of", "kind", values=("image_share", "query_share"), what="number"
    ),
    "nonlocality": lambda f: of_layers(f["rows"], ("nonlocality", "uniform")),
    "gates": lambda f: of_layers(f["rows"], ("gate", "reach", "span")),
    "attention": lambda f: of_layers(f["rows"], ("largest",)),
    "similarity": lambda f: of_layers(
        f["rows"], ("query_similarity", "head_similarity", "entropy", "top_share")
    ),
    "landscape": without("nll_error"),
    "hessian": _hessian_table,
    "robustness": _robustness_table,
    "noise": _noise_table,
    "kernel-size": without("model", "others"),
    "kernel-size-hessian": _hessian_table,
    **training_claims.TABLES,
}
