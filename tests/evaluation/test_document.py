"""The numbers in docs/evaluation.md are those of the measured file."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_document_shows_the_measured_numbers() -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    lines = text.partition("```\n$ convattn evaluate")[2].partition("```")[0].splitlines()
    shown = {" ".join(line.split()[:2]): line.split() for line in lines}
    path = ROOT / "model_cards" / "measured" / "convit_nano.digits" / "accuracy.json"
    result = json.loads(path.read_text(encoding="utf-8"))["results"]["digits/test"]
    assert f"({result['correct']} of {result['total']};" in lines[1]
    first = {
        "acc1_percent": "accuracy", "acc5_percent": "top-5", "nll": "NLL", "brier": "Brier",
        "ece": "ECE", "iou": "IoU",
    }  # fmt: skip
    for name, label in first.items():
        entry = result["metrics"][name]
        row = next(words for words in shown.values() if words[0] == label)
        form = "{:.2f}" if name.endswith("percent") else "{:.4f}"
        for number in (entry["value"], *entry["interval95"]):
            assert form.format(number) in row, f"{name}: {number} is not in {row}"
