"""Figures of a parity report: errors against their limits, and how errors spread over nodes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from zoo.analysis._figure import INK, MUTED, SERIES, new_figure, save, tidy

_FLOOR = 1e-12  # where an exact result is drawn on the logarithmic axis


def draw_parity(
    report: dict[str, Any], path: str | Path, per_node: dict[str, Any] | None = None
) -> None:
    """Every row of a parity.json as a point below or above its limit, one line per candidate.

    Args:
        report: content of parity.json.
        per_node: content of `NodeErrors.to_dict`; adds a histogram of errors per node.
    Raises: MissingDependencyError without matplotlib, ResourceError.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in report["rows"]:
        groups.setdefault(_label(row), []).append(row)
    height = 1.0 + 0.28 * len(groups) + (2.0 if per_node else 0.0)
    figure = new_figure(7.0, height)
    if per_node:
        rows = [max(1.0, 0.28 * len(groups)), 1.6]
        axes, below = figure.subplots(2, 1, height_ratios=rows)
        _draw_nodes(below, per_node)
    else:
        axes = figure.subplots()
    kinds = dict.fromkeys(row["inputs"] for row in report["rows"])
    colours = {kind: SERIES[i % len(SERIES)] for i, kind in enumerate(kinds)}
    for line, entries in enumerate(groups.values()):
        _draw_candidate(axes, line, entries, colours)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlabel("largest absolute error\n(long bar: limit; short bar: eager float32)")
    _legend(axes, colours)
    passed = "passes" if report["passed"] else "FAILS"
    axes.set_title(f"{report['name']} {report['version']}: {passed}".replace("  ", " "))
    tidy(axes)
    save(figure, path)


def _label(row: dict[str, Any]) -> str:
    parts = [row["file"], row["level"], "TF32" if row["tf32"] else ""]
    if row["output"] != "logits":
        parts.append(row["output"])
    return " ".join(part for part in (*parts, f"on {row['provider']}") if part)


def _draw_candidate(
    axes: Any, line: int, entries: list[dict[str, Any]], colours: dict[str, str]
) -> None:
    for entry in entries:
        if entry["limit"] is not None:
            axes.plot([entry["limit"]] * 2, [line - 0.3, line + 0.3], color=MUTED, lw=1.2)
        eager = max(entry["eager_max_abs_error"] or _FLOOR, _FLOOR)
        axes.plot([eager], [line], marker="|", color=INK, markersize=5, lw=0)
        error = entry["max_abs_error"]
        shown = max(error, _FLOOR) if error is not None else math.nan
        colour = colours[entry["inputs"]]
        marker = "o" if entry["passed"] else "X"
        axes.plot([shown], [line], marker=marker, color=colour, markersize=4, alpha=0.7, lw=0)


def _legend(axes: Any, colours: dict[str, str]) -> None:
    """What the colours mean, above the candidates."""
    for kind, colour in colours.items():
        axes.plot([], [], "o", color=colour, markersize=4, label=kind)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1.12), ncols=5, frameon=False)


def _draw_nodes(axes: Any, found: dict[str, Any]) -> None:
    """Error of every node in the order of the graph."""
    errors = [math.nan if e is None else max(e, _FLOOR) for e in found["errors"]]
    axes.plot(range(len(errors)), errors, ".", color=SERIES[0], markersize=3)
    axes.axhline(found["budget"], color=MUTED, lw=1.2)
    axes.set_yscale("log")
    axes.set_xlabel("node, in the order of the graph (line: the budget)")
    axes.set_ylabel("error / scale")
    tidy(axes)
