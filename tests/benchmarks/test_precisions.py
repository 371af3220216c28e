"""The table of precisions, from made-up numbers. Never speed."""

from __future__ import annotations

from benchmarks.precisions import models, table


def test_every_bundled_and_random_model_is_measured() -> None:
    names = models()
    assert {"convit_nano.digits", "resnet_nano.fashion_mnist", "convit_tiny.random"} <= set(names)
    assert len(names) == len(set(names))


def test_a_row_says_what_a_precision_loses_and_saves() -> None:
    row = {
        "precision": "int8",
        "size_bytes": 1_250_000,
        "median_ms": 2.5,
        "top1_loss_points": 0.25,
        "of_float32": {"value": 0.5, "interval95": [0.4, 0.6]},
    }
    unknown = {**row, "precision": "float16", "top1_loss_points": None}
    lines = table([{"name": "a", "rows": [row, unknown]}]).splitlines()
    assert lines[2] == "| `a` | int8 | 0.25 | 1.25 | 2.50 | 0.50 (0.40 to 0.60) |"
    assert lines[3].startswith("| `a` | float16 | – |")
