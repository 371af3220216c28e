"""Every set of bundled weights reaches what its measured file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import zoo
from zoo.data.opening import open_dataset
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.predictor import Predictor

MEASURED = Path(__file__).parents[2] / "model_cards" / "measured"
NAMES = sorted(path.parent.name for path in MEASURED.glob("*.digits/accuracy.json"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_bundled_weights_are_as_accurate_as_measured(name: str) -> None:
    """To one image of 364, which another processor may answer otherwise."""
    stated = json.loads((MEASURED / name / "accuracy.json").read_text())["results"]
    predictor = Predictor.from_model(zoo.create_model(name, pretrained=True))
    data = open_dataset("digits", "validation")
    found = evaluate(predictor.logits, data, resamples=0)
    right = round(found.values["acc1"] * len(data))
    assert abs(right - stated["digits/validation"]["correct"]) <= 1
    assert len(data) == stated["digits/validation"]["total"]
