"""config.json files of others: every fact is found where timm finds it, and none is made up."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from zoo.factory.config_json import architecture_of, parse_config, trained_arguments
from zoo.factory.resolve import resolve

SAID = {"input_size": [1, 64, 48], "mean": [0.5], "std": [0.25], "fixed_input_size": True}


def described(folder: Path, config: dict[str, Any]) -> Any:
    (folder / "config.json").write_text(json.dumps({"architecture": "convit_tiny", **config}))
    return resolve(str(folder), True).described


@pytest.mark.parametrize(
    "config",
    [
        {"num_classes": 2, "label_names": ["a", "b"], "pretrained_cfg": SAID},
        {"num_classes": 2, "labels": ["a", "b"], **SAID},  # timm before 0.9
        {"pretrained_cfg": {**SAID, "num_classes": 2, "label_names": ["a", "b"]}},
    ],
)
def test_labels_classes_channels_and_size_are_found_wherever_timm_finds_them(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    found = described(tmp_path, config)
    assert (found.num_classes, found.labels) == (2, ("a", "b"))
    assert (found.input.size, found.input.in_chans) == ((64, 48), 1)
    assert (found.input.mean, found.input.std) == ((0.5,), (0.25,))
    assert found.model_args == {"in_chans": 1, "img_size": (64, 48), "num_classes": 2}


@pytest.mark.parametrize("licence", ["cc-by-nc-4.0", ""])
def test_the_licence_is_the_one_that_the_file_states_not_upstreams(
    tmp_path: Path, licence: str
) -> None:
    said = {"license": licence} if licence else {}
    assert described(tmp_path, {"pretrained_cfg": said}).licence == licence


def test_a_way_to_crop_that_we_do_not_have_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        described(tmp_path, {"pretrained_cfg": {"crop_mode": "center"}})
        assert caplog.text == ""
        described(tmp_path, {"pretrained_cfg": {"crop_mode": "squash"}})
    assert "crop_mode 'squash', which is not known here" in caplog.text


def test_an_architecture_that_only_timm_knows_is_timms() -> None:
    config = {"architecture": "vit_tiny_patch16_224", "model_args": {"global_pool": "token"}}
    found = parse_config(json.dumps(config).encode(), "config.json")
    assert architecture_of(found) == "timm:vit_tiny_patch16_224"
    assert trained_arguments(found, None) == {"global_pool": "token"}
    assert architecture_of({"architecture": "convit_tiny"}) == "convit_tiny"
    assert architecture_of({"architecture": "zoo_convit_nano"}) == "convit_nano"


def test_a_config_of_21843_classes_with_long_names_is_read() -> None:
    names = [
        f"{number:08d}, giant schnauzer, domestic dog, Canis lupus familiaris"
        for number in range(21843)
    ]
    config = {
        "architecture": "zoo_convit_nano", "num_classes": 21843, "label_names": names,
        "id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)},
    }  # fmt: skip
    data = json.dumps(config, indent=2).encode()
    assert len(data) > 4 << 20
    assert tuple(parse_config(data, "config.json")["label_names"]) == tuple(names)
