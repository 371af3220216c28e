"""Settings are checked when they are made, and plain values from then on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import export
import zoo
from export.formats.metadata import describe_for
from export.spec import ExportSpec
from zoo.errors import ConfigError


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"absolute": math.nan}, "absolute must be finite; got nan"),
        ({"absolute": "1e-5"}, "absolute must be a number"),
        ({"cuda": 0.0}, "cuda must be positive; got 0.0"),
        ({"float16": -1.0}, "float16 must be positive"),
        ({"float16_top1": 99.5}, "float16_top1 must be in 0 to 1"),
        ({"eager_ratio": -1.0}, "eager_ratio must be at least 0"),
        ({"int8_top1_loss": math.inf}, "int8_top1_loss must be finite"),
        ({"batches": ()}, r"batches must be positive integers, at least one; got \(\)"),
        ({"batches": (2, 0)}, "batches must be positive integers"),
        ({"batches": 3}, "batches must be a list of integers; got 3"),
        ({"batches": "12"}, "batches must be a list of integers; got '12'"),
        ({"batches": (1.5,)}, r"batches\[0\] must be an integer"),
        ({"seed": -1}, "seed must be at least 0; got -1"),
        ({"seed": True}, "seed must be an integer"),
        ({"dynamic_size": "no"}, "dynamic_size must be true or false"),
        ({"img_size": 32}, "img_size must be"),
        ({"img_size": (32, 32, 3)}, "img_size must have 2 entries; got 3"),
        ({"img_size": (0, 32)}, "img_size must be a positive height and width"),
        ({"opset": "23"}, "opset must be an integer"),
        ({"opset": True}, "opset must be an integer"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_name(setting: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"export spec: {says}"):
        ExportSpec(**setting)


def test_lists_and_numbers_of_numpy_are_what_they_hold() -> None:
    given: Any = {
        "batches": np.array([1, 3]),
        "img_size": [np.int64(32), 48],
        "absolute": np.float32(0.5),
        "seed": np.int32(7),
    }
    spec = ExportSpec(**given)
    assert (spec.batches, spec.img_size, spec.seed) == ((1, 3), (32, 48), 7)
    assert {type(n) for n in (*spec.batches, *(spec.img_size or ()), spec.seed)} == {int}
    assert type(spec.absolute) is float
    assert spec == ExportSpec(batches=(1, 3), img_size=(32, 48), absolute=0.5, seed=7)


def test_one_size_may_be_written_in_two_ways() -> None:
    given: Any = {"img_size": [32, 32]}
    model = zoo.create_model("convit_nano")
    spec, input = ExportSpec(**given), zoo.InputSpec(size=(32, 32))
    assert describe_for(model, spec, input).input.size == (32, 32)


def test_a_verification_refuses_what_it_would_not_heed(tmp_path: Path) -> None:
    for setting in ({"opset": 18}, {"dynamic_size": True}, {"img_size": (8, 8)}, {"seed": 3}):
        spec: Any = ExportSpec(**setting)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=f"leave {next(iter(setting))} out of the spec"):
            export.verify_directory(tmp_path, spec=spec)


def test_an_input_takes_lists_and_numbers_of_numpy() -> None:
    given: Any = {"size": [np.int64(32), 48], "mean": np.zeros(3), "std": [1, np.float32(1), 1.0]}
    spec = zoo.InputSpec(**given)
    assert hash(spec) == hash(zoo.InputSpec(size=(32, 48), mean=(0.0,) * 3, std=(1.0,) * 3))
    assert json.loads(json.dumps(spec.to_dict()))["input_size"] == [3, 32, 48]


@pytest.mark.parametrize(
    "given", [{"size": (True, 32)}, {"size": 32}, {"in_chans": True}, {"crop_pct": True}]
)
def test_an_input_of_other_kinds_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="must be"):
        zoo.InputSpec(**given)
