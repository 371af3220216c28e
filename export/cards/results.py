"""The numbers of a card: accuracy, calibration, parity, speed. Each says where it comes from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from zoo.catalog.weights_records import Metric

from .facts import CardFacts, Json, MeasuredParity
from .metadata import measured_metrics_of, plain

NOT_MEASURED = "Not measured."
_HEAD = ["| metric | value | on | source |", "|---|---|---|---|"]
_NAMES = {"acc1_percent": "top-1 accuracy, %", "acc5_percent": "top-5 accuracy, %"}
# key in accuracy.json -> (row label, digits)
_CALIBRATION = {
    "nll": ("negative log-likelihood, nats", 4),
    "brier": ("Brier score", 4),
    "ece": ("expected calibration error (15 bins)", 4),
    "ecse": ("signed: confidence above (+) or below (-) accuracy", 4),
    "frequency90_percent": ("answers with confidence above 0.9, %", 1),
    "acc90_percent": ("accuracy among these, %", 2),
    "unconfidence_percent": ("wrong answers with confidence up to 0.9, %", 1),
}


def metrics_section(facts: CardFacts) -> str:
    """Measured by us, then published, each with its source; never mixed."""
    own = [_HEAD, [_metric_row(metric, facts.accuracy) for metric in measured_metrics_of(facts)]]
    measured = "\n".join(own[0] + own[1]) if own[1] else f"{NOT_MEASURED} {_how_to(facts)}"
    parts = [f"### Measured by us\n\n{measured}"]
    if facts.accuracy is not None:
        parts.append(_conditions(facts.accuracy))
        parts.append(_class_numbers(facts.cfg.labels))
    rows = [_metric_row(metric, None) for metric in facts.published]
    if rows:
        table = "\n".join([*_HEAD, *rows])
        parts.append(f"### Published, not measured by us\n\n{table}")
        parts.append(_discrepancy(facts.published))
    return "\n\n".join(filter(None, parts))


def _class_numbers(labels: Sequence[str]) -> str:
    """What numbers in pictures mean: names that no font had the letters of are drawn as numbers."""
    if all(label.isascii() for label in labels):
        return ""
    names = ", ".join(f"{number} {plain(label)}" for number, label in enumerate(labels))
    return f"Where a picture has numbers instead of classes: {names}."


def _how_to(facts: CardFacts) -> str:
    return (
        f"`convattn evaluate {facts.name} --data imagenet:DIR` does it." if facts.published else ""
    )


def _metric_row(metric: Metric, accuracy: Json | None) -> str:
    value = f"{metric.value:g}"
    found = (accuracy or {}).get("results", {}).get(metric.dataset)
    if found:
        low, high = found["interval95_percent"]
        value = (
            f"**{found['acc1_percent']:.2f}** ({found['correct']} of {found['total']}; 95 %: "
            f"{low:.1f} to {high:.1f})"
        )
    name = _NAMES.get(metric.name, metric.name)
    return f"| {name} | {value} | {plain(metric.dataset)} | {metric.source} |"


def _conditions(accuracy: Json) -> str:
    """How the accuracy was measured: digests of the data, machine, versions."""
    digests = [
        f"{part} `{found['data_sha256'][:16]}`"
        for part, found in accuracy["results"].items()
        if found.get("data_sha256")
    ]
    resamples = accuracy.get("resamples", 1000)
    intervals = f"Intervals: Wilson for shares, {resamples:,} bootstrap resamples otherwise."
    data = f" SHA-256 of the data: {', '.join(digests)}." if digests else ""
    return f"{intervals}{data} {where(accuracy)}"


def where(how: Json) -> str:
    """Processor, versions and commit of a measurement."""
    versions, machine = how.get("versions", {}), how.get("machine", {})
    packages_here = ("torch", "onnxruntime-gpu", "onnxruntime", "convattn-zoo")
    # in a browser, what is installed here did not take part
    in_browser = ("onnxruntime-web", "convattn-zoo")
    names = in_browser if "onnxruntime-web" in versions else packages_here
    packages = ", ".join(f"{n} {versions[n]}" for n in names if n in versions)
    packages = ", ".join(filter(None, (how.get("browser"), packages)))
    device = how.get("device") or machine.get("gpu") or machine.get("cpu", "unknown machine")
    cores = f", {machine['cores']} cores" if machine.get("cores") else ""
    commit = f", after commit {how['parent_commit'][:12]}" if how.get("parent_commit") else ""
    return f"Measured on {device}{cores}, {packages}{commit}."


def seeds_table(facts: CardFacts) -> str:
    """Accuracy over several seeds of the same recipe, or nothing."""
    seeds = (facts.training or {}).get("seeds", {})
    runs: Sequence[Json] = seeds.get("runs", ())
    if len(runs) < 2:
        return ""
    lines = [
        f"The same recipe with {len(runs)} seeds:",
        "",
        "| seed | validation, % | test, % |",
        "|---|---|---|",
    ]
    for run in runs:
        mark = " (these weights)" if run["seed"] == seeds.get("released") else ""
        row = (run["validation_acc1_percent"], run["test_acc1_percent"])
        lines.append(f"| {run['seed']}{mark} | {row[0]:.2f} | {row[1]:.2f} |")
    means = [seeds[key] for key in ("validation_acc1_percent", "test_acc1_percent")]
    cells = [
        f"{m['mean']:.2f} ({m['interval95'][0]:.2f} to {m['interval95'][1]:.2f})" for m in means
    ]
    lines.append(f"| mean (95 % of the mean, Student's t) | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _discrepancy(metrics: Sequence[Metric]) -> str:
    """Where two sources give different numbers for the same thing."""
    sentences = [
        f"{_NAMES.get(one.name, one.name)}: {one.value:g} in {one.source}, {other.value:g} in "
        f"{other.source}, {other.value - one.value:+.3f} points"
        for one, other in itertools.combinations(metrics, 2)
        if (one.name, one.dataset) == (other.name, other.dataset) and one.value != other.value
    ]
    return f"The sources differ. {'; '.join(sentences)}." if sentences else ""


def calibration_section(facts: CardFacts) -> str:
    """Calibration of every part that was measured."""
    if facts.accuracy is None or not any(
        found.get("metrics") for found in facts.accuracy["results"].values()
    ):
        return NOT_MEASURED
    results = {part: f for part, f in facts.accuracy["results"].items() if f.get("metrics")}
    lines = [
        f"| | {' | '.join(results)} |",
        "|---" * (1 + len(results)) + "|",
    ]
    for key, (label, digits) in _CALIBRATION.items():
        cells = [
            _with_interval((found.get("metrics") or {}).get(key), digits)
            for found in results.values()
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    definitions = {found.get("definition", "textbook") for found in results.values()}
    lines += ["", f"Definitions: {', '.join(sorted(definitions))} (docs/evaluation.md)."]
    return "\n".join(lines)


def _with_interval(metric: Json | None, digits: int) -> str:
    if not metric or metric["value"] is None:
        return "undefined"
    text = f"{metric['value']:.{digits}f}"
    if metric["interval95"]:
        low, high = metric["interval95"]
        text += f" ({low:.{digits}f} to {high:.{digits}f})"
    return text


def parity_section(facts: CardFacts) -> str:
    """One table for each parity file: what ran where, and how far from float64."""
    if not facts.parity:
        return f"{NOT_MEASURED} `convattn export {facts.name} --out DIR` measures it."
    text = "Error of exported files against the model in float64, beside what eager float32 makes."
    tables = [_parity_table(entry) for entry in facts.parity]
    if not any("CUDA" in row["provider"] for e in facts.parity for row in e.report.summary()):
        tables.append("CUDA and TensorRT: not measured.")
    return "\n\n".join([text, *tables])


def _parity_table(entry: MeasuredParity) -> str:
    lines = [
        "| file | precision | ran on | max error | eager float32 | ratio | KL, nats | same top-1 | "
        "verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in entry.report.summary():
        tf32 = ", TF32" if row["tf32"] else ""
        output = "" if row["output"] == "logits" else f", {row['output']}"
        cells = (
            f"{row['file']}{output}", row["precision"], f"{row['provider']}{tf32}",
            number(row["max_abs_error"]), number(row["eager_max_abs_error"]),
            _share(row["ratio"], ".2f" if row["ratio"] < 100 else ",.0f"), number(row["kl"]),
            _share(100 * row["top1_agreement"], ".1f", " %"),
            "pass" if row["passed"] else "**FAIL**",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    how = entry.how
    ending = f"\n\n`{how['command']}`. {where(how)}" if how.get("command") else ""
    return "\n".join(lines) + ending


def number(value: float) -> str:
    """Two significant digits, or a dash for what is undefined."""
    return f"{value:.1e}" if math.isfinite(value) else "–"


def _share(value: float, form: str, unit: str = "") -> str:
    return f"{value:{form}}{unit}" if math.isfinite(value) else "–"


def speed_section(facts: CardFacts) -> str:
    """Time of each way to run the model, as a ratio to eager torch in the same run."""
    if not facts.speed:
        command = f"convattn bench model {facts.cfg.architecture}"
        return f"{NOT_MEASURED} `{command}` compares the ways to run it on your machine."
    return "\n\n".join(_speed_table(entry) for entry in facts.speed)


def _speed_table(entry: Json) -> str:
    shape = " x ".join(str(n) for n in entry["shape"])
    lines = [
        f"Input {shape}, {entry['threads']} thread{'s' * (entry['threads'] != 1)}, "
        f"{entry['provider']}; time of eager torch = 1:",
        "",
        "| run by | time / eager's | 95 % interval |",
        "|---|---|---|",
    ]
    candidates: Sequence[dict[str, Any]] = entry["candidates"]
    for candidate in candidates:
        ratio = candidate["of_eager"]
        low, high = ratio["interval95"]
        lines.append(f"| {candidate['by']} | {ratio['value']:.2f} | {low:.2f} to {high:.2f} |")
    return "\n".join(lines) + f"\n\n`{entry['command']}`. {where(entry)}"
