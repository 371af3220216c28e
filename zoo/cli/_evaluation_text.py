"""What `evaluate` prints: measurements as lines and tables, and as JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..evaluation.evaluate import json_name
from ..files.json_text import to_json
from ._console import table

if TYPE_CHECKING:
    from ..evaluation.corrupted import CorruptionEvaluation
    from ..evaluation.evaluate import Evaluation

_SHOWN = {
    "acc1": "accuracy", "acc5": "top-5", "acc90": "accuracy where certain (> 0.9)",
    "frequency90": "certain predictions", "unconfidence": "errors it was uncertain of",
    "nll": "NLL", "brier": "Brier score", "ece": "ECE", "ecse": "ECSE (confidence - accuracy)",
    "iou": "IoU", "iou90": "IoU where certain",
}  # fmt: skip
_WEAKEST = 5  # classes shown


def evaluation_text(model: str, found: Evaluation, of: int) -> str:
    """Accuracy in a line, all metrics in a table, the weakest classes, and what was skipped.

    Args: of: images that there are, of which those were measured.
    """
    accuracy = found.accuracy
    low, high = accuracy.interval_percent
    lines = [
        f"{model} on {found.dataset}: {accuracy.percent:.2f} % ({accuracy.correct} of "
        f"{accuracy.total}; {low:.1f} to {high:.1f} at 95 %)",
        f"measured on {accuracy.total} of {of} images{_rest(found, of)}",
        table(("metric", "value", "95 % interval"), _rows(found), right=(1,)),
    ]
    lines += [_above(row) for row in found.at_cutoffs()]
    weakest = sorted(found.classes(), key=lambda row: row["acc1_percent"])[:_WEAKEST]
    shown = ", ".join(
        f"{row['label']} {row['acc1_percent']:.1f} % of {row['total']}" for row in weakest
    )
    lines.append(f"weakest classes: {shown}")
    if found.skipped:
        some = ", ".join(found.skipped[:3]) + (", ..." if len(found.skipped) > 3 else "")
        lines.append(f"skipped {len(found.skipped)} images that cannot be read: {some}")
    return "\n".join(lines)


def _rest(found: Evaluation, of: int) -> str:
    """Where the other images are."""
    left = of - len(found.outcomes) - len(found.skipped)
    part = found.dataset.rpartition("/")[2]
    return f"; {left} are not in the {part} part (--part all measures all)" if left else ""


def _above(row: dict[str, float | None]) -> str:
    """One cutoff in a line."""
    shown = {k: "undefined" if v is None else f"{100 * v:.2f} %" for k, v in row.items()}
    return (
        f"above {row['cutoff']:g}: {shown['frequency']} of the predictions, accuracy "
        f"{shown['acc']}, IoU {shown['iou']}; below: {shown['unconfidence']} of the errors"
    )


def _rows(found: Evaluation) -> list[tuple[str, str, str]]:
    metrics = found.to_dict()["metrics"]
    rows = []
    for name, label in _SHOWN.items():
        entry = metrics[json_name(name)]
        percent = json_name(name).endswith("_percent")
        form = "{:.2f} %" if percent else "{:.4f}"
        bounds = entry["interval95"]
        interval = " to ".join(form.replace(" %", "").format(b) for b in bounds) if bounds else ""
        value = "undefined" if entry["value"] is None else form.format(entry["value"])
        rows.append((label, value, interval))
    return rows


def corruption_text(model: str, data: str, found: CorruptionEvaluation) -> str:
    """The mean in a line, and a table of corruptions by severities."""
    content = found.table()
    severities = sorted({row.severity for row in found.rows})
    rows = [
        (
            name,
            *(f"{values[s]:.1f}" for s in severities),
            f"{sum(values.values()) / len(values):.1f}",
        )
        for name, values in content.items()
    ]
    header = ("accuracy in %, by severity", *(str(s) for s in severities), "mean")
    body = table(header, rows, right=tuple(range(1, len(header))))
    interval = found.interval95_percent
    bounds = f" ({interval[0]:.2f} to {interval[1]:.2f} at 95 %)" if interval else ""
    title = f"{model} on {data}: mean of {len(found.rows)} sets {found.mean_percent:.2f} %{bounds}"
    return f"{title}\n{body}"


def compact_json(value: Any) -> str:
    """Indented JSON with lists of numbers on one line."""
    text = to_json(value, indent=2, ensure_ascii=False)
    return re.sub(
        r"\[\s+((?:-?[\d.eE+-]+,\s+)*-?[\d.eE+-]+)\s+\]",
        lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]",
        text,
    )
