"""Calibration on Fashion-MNIST's test part: of bundled weights, and of runs with blurs and dropout.

    python -m benchmarks.calibration [RUN ...] --out model_cards/measured/calibration.json

A RUN is a directory that `convattn train` wrote; one with MC dropout is also judged by the mean of
several passes. What is known of others stays. About ten seconds for a row of one pass.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import zoo
from zoo.evaluation.metrics import BINS, summarize
from zoo.files.json_text import to_json
from zoo.files.local import write_text
from zoo.files.provenance import provenance

from . import tables

FILE = "calibration.json"
DATA = "fashion_mnist"
COMMAND = "python -m benchmarks.calibration"
PASSES = (1, 5, 20)  # with MC dropout on
SHOWN = ("acc1", "nll", "brier", "ecse")


def weights() -> list[str]:
    """Bundled weights that learned these images."""
    names = zoo.list_models(pretrained=True, with_tags=True)
    return [name for name in names if name.endswith(f".{DATA}")]


def measure(reference: str, data: str = DATA) -> Iterator[dict[str, Any]]:
    """One row without dropout, then one for each number of passes of a model that has it."""
    model = zoo.create_model(reference, pretrained=True)
    cfg = model.pretrained_cfg
    changed = {k: v for k, v in cfg.model_args.items() if k in ("block", "smoothing")}
    about = {"model": cfg.architecture, "weights_sha256": cfg.sha256}
    images = zoo.open_dataset(data, "test")
    for passes in (0, *(PASSES if changed.get("block") == "mcdo" else ())):
        torch.manual_seed(0)
        predictor = zoo.Predictor.from_model(model, mc_samples=passes)
        found = zoo.evaluate(predictor.logits, images, labels=predictor.labels, resamples=0)
        row: dict[str, Any] = {**about, "changed": changed, "passes": passes}
        row |= {key: round(found.values[key], 6) for key in SHOWN}
        for bins in sorted(set(BINS.values())):
            row[f"ece_{bins}_bins"] = round(summarize(found.outcomes, bins=bins)["ece"], 6)
        yield row


def part() -> str:
    """The table in docs/accuracy.md."""
    path = tables.MEASURED / FILE
    if not path.is_file():
        return f"Not measured yet: `{COMMAND} --out model_cards/measured/{FILE}`."
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    lines = [
        "| model | passes of MC dropout | accuracy, % | NLL | Brier "
        "| ECE, 10 bins | ECE, 15 bins | ECSE |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        set_to = ", ".join(f"{key}={value}" for key, value in sorted(row["changed"].items()))
        passes = row["passes"] or "off"
        lines.append(
            f"| `{row['model']}`{f', `{set_to}`' if set_to else ''} | {passes} "
            f"| {100 * row['acc1']:.1f} | {row['nll']:.3f} | {row['brier']:.3f} "
            f"| {row['ece_10_bins']:.3f} | {row['ece_15_bins']:.3f} | {row['ecse']:+.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, and write after each model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--out", required=True, type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = json.loads(given.out.read_text("utf-8"))["rows"] if given.out.is_file() else []
    for reference in [*weights(), *given.runs]:
        rows = list(measure(reference))
        digest = rows[0]["weights_sha256"]
        known = [row for row in known if row["weights_sha256"] != digest] + rows
        known.sort(key=lambda row: (bool(row["changed"]), row["model"], str(row["changed"])))
        content = {"data": f"{DATA}/test", "rows": known, "command": COMMAND, **provenance(0)}
        write_text(given.out, to_json(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
