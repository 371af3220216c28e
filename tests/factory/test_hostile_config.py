"""A small config.json cannot ask for a network, an image or a number without end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.errors import ConfigError
from zoo.factory.config_json import build_config
from zoo.weights.safetensors_file import weights_bytes


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    model = zoo.create_model("convit_nano", pretrained=True)
    (out / "config.json").write_text(json.dumps(build_config(model)))
    (out / "model.safetensors").write_bytes(weights_bytes(model))
    return out


@pytest.mark.parametrize(
    ("model_args", "elsewhere", "message"),
    [
        ({"depth": 1_000_000}, {}, "more than 10000 modules"),
        ({"depth": 2**62}, {}, "depth=4611686018427387904"),
        ({"embed_dim": 2**40}, {}, "embed_dim="),
        ({"img_size": [2**33, 32]}, {}, "img_size="),
        ({"mlp_ratio": 1e300}, {}, "mlp_ratio="),
        ({"img_size": 100_000}, {}, "at most 16777216 pixels"),
        ({}, {"num_classes": 10**12}, "num_classes="),
        ({}, {"input_size": [3, 100_000, 100_000]}, "at most 16777216 pixels"),
    ],
)
def test_it_is_refused_before_it_is_built(
    directory: Path, tmp_path: Path, model_args: Any, elsewhere: Any, message: str
) -> None:
    config = json.loads((directory / "config.json").read_text())
    config["model_args"] = model_args
    config["pretrained_cfg"].update(elsewhere)
    config["num_classes"] = elsewhere.get("num_classes", 10)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    with pytest.raises(ConfigError, match=message) as caught:
        zoo.create_model(str(tmp_path), pretrained=True)
    assert len(str(caught.value)) <= 300


def test_the_largest_models_have_a_fifth_of_the_modules() -> None:
    import torch

    with torch.device("meta"):
        for name in ("hdvw_vit_huge", "hdvw_swin_large", "cbamresnet_152", "alternet_152"):
            assert sum(1 for _ in zoo.create_model(name).modules()) < 2_000
