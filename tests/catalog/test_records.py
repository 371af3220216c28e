"""Records that cannot be: refused with what is wrong."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

import zoo
from zoo.catalog.weights_records import InputSpec
from zoo.errors import ConfigError

from .toys import CONFIG, family, weights


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tag": "Digits"}, r"weights toy_nano\.Digits@1\.0\.0: tag must match"),
        ({"tag": ""}, "tag must match"),
        ({"version": "1.0"}, r"version must be X\.Y\.Z"),
        ({"version": "1.00.0"}, r"version must be X\.Y\.Z"),
        ({"sha256": "0" * 63}, "sha256 must be 64 hexadecimal digits"),
        ({"sha256": "G" * 64}, "sha256 must be 64 hexadecimal digits"),
        ({"size_bytes": 0}, "size_bytes must be positive; got 0"),
        ({"bundled": ""}, "give either bundled or repo"),
        ({"repo": "org/name", "revision": "a" * 40}, "give either bundled or repo"),
        ({"bundled": "", "repo": "org/name"}, "full commit hash of 40 .* got ''"),
        ({"bundled": "", "repo": "org/name", "revision": "main"}, "full commit .* got 'main'"),
        ({"architecture_versions": ()}, "architecture_versions is empty"),
        ({"architecture_versions": 1}, "architecture_versions must be a list of integers; got 1"),
        ({"size_bytes": "1"}, "size_bytes must be an integer; got '1'"),
        ({"pinned_on_first_use": "no"}, "pinned_on_first_use must be true or false; got 'no'"),
        ({"input": {"siz": (32, 32)}}, r"input\.siz is unknown; did you mean 'size'"),
        ({"input": 32}, "input must be an object; got 32"),
        ({"overrides": [("num_classes", 7)]}, "overrides must be an object; got an? list of 1"),
        ({"overrides": {1: 7}}, "overrides has the key 1; keys are texts"),
        ({"metrics": ("acc1",)}, r"metrics\[0\] must be an object; got 'acc1'"),
    ],
)
def test_impossible_weights_records_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        weights(**changes)
    assert caught.value.code == "record"


def test_a_hub_record_needs_repository_and_commit_only() -> None:
    record = weights(bundled="", repo="org/name", revision="a" * 40)
    assert (record.file, record.name) == ("model.safetensors", "toy_nano.digits@1.0.0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {}}, "family toy: no variants"),
        ({"tiny": {}}, "family toy: no tiny configuration"),
        ({"variants": {"Toy-nano": CONFIG}}, "'Toy-nano' must match"),
        ({"variants": {"toy_nano": 3}}, r"family toy: variants\.toy_nano must be an object; got 3"),
        ({"licence": "MIT"}, "family toy: licence must be an object; got 'MIT'"),
        ({"weights": (weights("wood_nano"),)}, r"weights for unknown models \['wood_nano'\]"),
    ],
)
def test_impossible_families_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        family(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (32,)}, r"size must be \(height, width\) of at most .*; got \(32,\)"),
        ({"size": (0, 32)}, "size must be"),
        ({"size": 224}, "size must be .*; got 224"),
        ({"size": (8.5, 8)}, "size must be"),
        ({"size": "ab"}, "size must be"),
        ({"in_chans": 3.0}, "in_chans must be"),
        ({"mean": 0.5}, "mean and std"),
        ({"std": ("1", "1", "1")}, "mean and std"),
        ({"crop_pct": "1"}, "crop_pct must be"),
        ({"in_chans": 0}, "in_chans must be in 1 to 1024; got 0"),
        ({"mean": (0.5,)}, "one entry for each of 3 channels"),
        ({"std": (0.5, 0.5, 0.0)}, "one entry for each of 3 channels"),
        ({"interpolation": "lanczos"}, "bicubic, bilinear or nearest; got 'lanczos'"),
        ({"crop_pct": 0.0}, r"crop_pct must be in 0.01 to 1; got 0"),
        ({"crop_pct": 1.1}, r"crop_pct must be in 0.01 to 1; got 1.1"),
    ],
)
def test_impossible_inputs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InputSpec(**changes)


def test_an_input_survives_json() -> None:
    spec = InputSpec(size=(32, 48), in_chans=1, mean=(0.1,), std=(0.2,), interpolation="nearest")
    assert InputSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    "values", [[3, 32, 32], {"input_size": [3, 32]}, {"mean": 0.5}, {"crop_pct": []}]
)
def test_json_that_is_no_input_is_refused(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"no input specification: .* must (be|have)") as caught:
        InputSpec.from_dict(values)
    assert caught.value.code == "record"


def test_records_cannot_be_changed() -> None:
    for record in (weights(), family(), InputSpec(), zoo.get_record("toy_nano")):
        first = dataclasses.fields(record)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, first, "other")


@pytest.mark.parametrize("wrong", [{}, None, "toy_nano"])
def test_what_is_no_record_cannot_be_registered(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"no weights record: got .*; see zoo\.WeightsRecord"):
        zoo.register_weights(wrong)
