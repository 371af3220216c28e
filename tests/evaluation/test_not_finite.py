"""Weights and logits that are no numbers are an error, never an answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import zoo
from zoo.catalog.weights_records import InputSpec
from zoo.cli import main
from zoo.errors import ConfigError, InputError, WeightsFileError
from zoo.evaluation.predictor import Predictor
from zoo.factory.config_json import build_config
from zoo.files.local import sha256_bytes

SCAN = Path(__file__).resolve().parents[2] / "examples" / "digit_3.png"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model directory whose digests are right and whose last weight is not a number."""
    model = zoo.create_model("convit_nano", img_size=16, patch_size=8)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    list(state.values())[-1].view(-1)[-1] = float("nan")
    data = safetensors.torch.save(state, metadata={"format": "pt"})
    out = tmp_path / "model"
    out.mkdir()
    (out / "model.safetensors").write_bytes(data)
    (out / "config.json").write_text(json.dumps(build_config(model, sha256_bytes(data))))
    return out


def test_a_directory_with_nan_weights_is_refused_and_the_tensor_named(directory: Path) -> None:
    with pytest.raises(WeightsFileError, match=r"1 of \d+ values of .* are not finite") as caught:
        zoo.create_model(str(directory), pretrained=True)
    assert caught.value.code == "not_finite"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("verb", ["predict", "embed"])
def test_no_verb_answers_with_nan_weights(
    verb: str, directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = [str(SCAN)] if verb == "predict" else ["--data", str(SCAN.parent), "--out"]
    rest += [str(tmp_path / "f.npz")] if verb == "embed" else []
    with pytest.raises(SystemExit) as caught:
        main([verb, str(directory), *rest, "--json"])
    assert caught.value.code == 3
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["code"] == "not_finite"


def test_large_weights_whose_sum_overflows_are_no_error(tmp_path: Path) -> None:
    from zoo.weights.safetensors_file import check_finite

    check_finite({"a": torch.full((100,), 6e4, dtype=torch.float16)}, "large")
    with pytest.raises(WeightsFileError):
        check_finite({"a": torch.tensor([1.0, float("inf")])}, "large")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_an_error(value: float) -> None:
    def forward(batch: np.ndarray) -> np.ndarray:
        found = np.zeros((len(batch), 3), np.float32)
        found[-1, 1] = value
        return found

    predictor = Predictor(forward, InputSpec(size=(8, 8)), ("a", "b", "c"), "broken")
    with pytest.raises(InputError, match=r"1 of 2 images, first of '.*digit_3\.png'") as caught:
        predictor.predict([np.zeros((8, 8, 3), np.uint8), SCAN])
    assert caught.value.code == "not_finite"


def test_impossible_requests_of_a_predictor_are_typed() -> None:
    predictor = Predictor(lambda batch: np.zeros((len(batch), 3)), InputSpec(size=(8, 8)))
    with pytest.raises(InputError, match="at least one"):
        predictor.logits([])
    assert predictor.predict([]) == []
    with pytest.raises(ConfigError, match="batch_size must be at least 1; got 0"):
        predictor.logits([SCAN], batch_size=0)
    with pytest.raises(ConfigError, match="topk must be at least 1; got 0"):
        predictor(SCAN, topk=0)
