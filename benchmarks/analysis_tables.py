"""Tables of docs/analyses, made from measured rows: what a reader needs of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from zoo.training.sweep import GRIDS

TAG = "fashion_mnist"  # of the weights that the pages are about
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
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value).removesuffix(f".{TAG}")


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


def without(*keys: str) -> Callable[[Found], Rows]:
    """A table of the rows without some columns."""
    return lambda found: [
        {key: value for key, value in row.items() if key not in keys} for row in found["rows"]
    ]


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


def _groups(
    *by: str, values: tuple[str, ...], what: str, below: float | None = None
) -> Callable[[Found], Rows]:
    """Per group: how many, and of each value the mean and the range; of the last value also how
    often it is below a number.
    """

    def line(names: tuple[Any, ...], rows: Rows) -> dict[str, Any]:
        found = {**dict(zip(by, names, strict=True)), what: len(rows), **_ranges(rows, values)}
        known = [row[values[-1]] for row in rows if row.get(values[-1]) is not None]
        if below is not None and known:
            found[f"{values[-1]} below {below:g}"] = (
                f"{sum(value < below for value in known)} of {len(known)}"
            )
        return found

    def summarised(found: Found) -> Rows:
        groups: dict[tuple[Any, ...], Rows] = {}
        for row in found["rows"]:
            groups.setdefault(tuple(row[key] for key in by), []).append(row)
        return [line(names, rows) for names, rows in groups.items()]

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


_RINGS = {"trained weights": 0, "one step": 1, "corners": 2}


def _landscape_table(found: Found) -> Rows:
    """NLL, accuracy and half the sum of squares at the middle, and means around it."""
    rows = []
    for model, members in models_of(found["rows"]).items():
        for ring, steps in _RINGS.items():
            points = [r for r in members if abs(r["x"]) + abs(r["y"]) == steps]
            keys = ("nll", "acc1_percent", "half_squares")
            means = {key: mean(r[key] for r in points if r[key] is not None) for key in keys}
            rows.append({"model": model, "at": ring, **means})
    return rows


_SORTS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}


def _robustness_table(found: Found) -> Rows:
    """Means over each sort of corruptions, in the order of the overall mean."""
    clean = {entry["model"]: entry for entry in found["summary"]}
    rows = []
    for model, members in models_of(found["rows"]).items():
        row: dict[str, Any] = {"model": model, "clean": clean[model]["clean_percent"]}
        for sort, names in _SORTS.items():
            row[sort] = mean(r["acc1_percent"] for r in members if r["corruption"] in names)
        rows.append({**row, "mean of 75": clean[model]["mean_percent"]})
    return sorted(rows, key=lambda row: -row["mean of 75"])


def _noise_table(found: Found) -> Rows:
    """Every second frequency."""
    wanted: dict[tuple[str, float], dict[str, Any]] = {}
    for row in found["rows"]:
        if round(10 * row["frequency_pi"]) % 2:
            continue
        key = (row["test"].replace("_", "-"), row["frequency_pi"])
        line = wanted.setdefault(key, {"test": key[0], "frequency (π)": key[1]})
        line[f"`{row['model'].partition('.')[0]}`"] = row["acc1_percent"]
    return list(wanted.values())


def _sweep_table(column: str, others: str) -> Callable[[Found], Rows]:
    """One line for each series, one column for each value of a setting: mean (lowest to highest
    seed).
    """

    def rows(found: Found) -> Rows:
        lines: dict[str, dict[str, Any]] = {}
        for row in found["rows"]:
            name = row["others"] or row["model"]
            line = lines.setdefault(name, {others: name})
            line[_heading(column, row[column])] = _with_range(row)
        return list(lines.values())

    return rows


def _ablation(found: Found) -> Rows:
    """The rows as the paper calls them, a to g, with the keywords that make them."""
    letters = {
        frozenset(f"{key}={_plain(value)}" for key, value in row.items())
        or frozenset(["default"]): letter
        for letter, row in zip("abcdefg", GRIDS["convit-ablation"].rows, strict=True)
    }
    return [
        {
            "row": letters[frozenset(row["settings"].split(", "))],
            "keywords": "as registered" if row["settings"] == "default" else row["settings"],
            "test, %": _with_range(row),
        }
        for row in found["rows"]
    ]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _with_range(row: dict[str, Any]) -> str:
    """Mean over the seeds, and from the lowest to the highest of several."""
    spread = f" ({row['low']:.1f} to {row['high']:.1f})" if row["seeds"] > 1 else ""
    return f"{row['acc1_percent']:.1f}{spread}"


def _heading(setting: str, value: Any) -> str:
    return f"{100 * value:g} %" if setting == "fraction" else f"{setting} {value}"


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
    for entries in (found["rows"], found["summary"]):
        for entry in entries:
            entry["model"] = names[entry["model"]]
        entries.sort(key=lambda entry: str(entry["model"]))


_TABLES: dict[str, Callable[[Found], Rows]] = {
    "fourier": _groups("model", "kind", values=("high_frequency", "change"), what="units", below=0),
    "variance": _groups("model", "kind", values=("variance", "ratio"), what="units", below=1),
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
    "landscape": _landscape_table,
    "hessian": _hessian_table,
    "robustness": _robustness_table,
    "noise": _noise_table,
    "kernel-size": without("model", "others"),
    "kernel-size-hessian": _hessian_table,
    "ablation": _ablation,
    "sample-efficiency": _sweep_table("fraction", "model"),
    "sample-efficiency-conv": _sweep_table("fraction", "model"),
}
