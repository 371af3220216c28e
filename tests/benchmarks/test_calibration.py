"""Calibration of bundled weights: what the benchmark counts, and what the page shows of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from benchmarks import calibration, tables


def _measured(name: str) -> dict[str, Any]:
    path = tables.MEASURED / name / "accuracy.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))["results"])


def test_it_agrees_with_what_evaluate_measured() -> None:
    [row] = calibration.measure("resnet_nano.digits", "digits")
    metrics = _measured("resnet_nano.digits")["digits/test"]["metrics"]
    assert (row["model"], row["passes"], row["changed"]) == ("resnet_nano", 0, {})
    assert row["ece_15_bins"] == pytest.approx(metrics["ece"]["value"], abs=2e-6)
    assert row["nll"] == pytest.approx(metrics["nll"]["value"], abs=2e-5)
    predictor = zoo.Predictor.from_model(zoo.create_model("resnet_nano.digits", pretrained=True))
    ten = zoo.evaluate(predictor.logits, zoo.open_dataset("digits", "test"), bins=10, resamples=0)
    assert row["ece_10_bins"] == pytest.approx(ten.values["ece"], abs=2e-6)


def test_the_page_shows_the_weights_that_ship() -> None:
    rows = json.loads((tables.MEASURED / calibration.FILE).read_text(encoding="utf-8"))["rows"]
    plain = {row["weights_sha256"] for row in rows if not row["changed"]}
    shipped = [zoo.get_record(name).selected for name in calibration.weights()]
    assert plain == {weights.sha256 for weights in shipped if weights is not None}


def test_models_with_dropout_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {"block": "mcdo", "smoothing": True}
    file, run = tmp_path / "run.pth", tmp_path / "run"
    torch.save(zoo.create_model("resnet_nano", **changed).state_dict(), file)
    zoo.import_checkpoint(file, "resnet_nano", run, **changed)
    monkeypatch.setattr(calibration, "PASSES", (1, 2))
    rows = list(calibration.measure(str(run), "digits"))
    assert [row["passes"] for row in rows] == [0, 1, 2]
    assert {str(row["changed"]) for row in rows} == {"{'block': 'mcdo', 'smoothing': True}"}
    assert len({row["nll"] for row in rows}) == 3
