"""Every set of bundled weights reaches what its measured file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import zoo
from zoo.data import fashion_mnist
from zoo.data.opening import open_dataset
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.predictor import Predictor

MEASURED = Path(__file__).parents[2] / "model_cards" / "measured"
NAMES = sorted(path.parent.name for path in MEASURED.glob("*_nano.*/accuracy.json"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_bundled_weights_are_as_accurate_as_measured(name: str) -> None:
    """To one image of 364, or five of 10,000: another processor may answer some otherwise."""
    stated = json.loads((MEASURED / name / "accuracy.json").read_text())["results"]
    predictor = Predictor.from_model(zoo.create_model(name, pretrained=True))
    kind = name.partition(".")[2]
    if kind == "fashion_mnist" and not fashion_mnist.DEBIAN.is_dir():
        pytest.skip("no dataset-fashion-mnist here")
    data = open_dataset(kind, "test")
    found = evaluate(predictor.logits, data, resamples=0)
    right = round(found.values["acc1"] * len(data))
    assert abs(right - stated[f"{kind}/test"]["correct"]) <= max(1, len(data) // 2000)
    assert len(data) == stated[f"{kind}/test"]["total"]
