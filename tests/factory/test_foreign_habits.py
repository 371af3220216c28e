"""What users of timm and torchvision say of their models: image sizes, averages, instances."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

import zoo
from zoo.errors import ConfigError, NetworkError
from zoo.factory.config_json import build_config
from zoo.factory.create import create_from_file
from zoo.weights.foreign.reading import read_checkpoint

needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="needs torchvision"
)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("timm:lcnet_035", {}),
        ("timm:test_vit", {"img_size": 64}),
        pytest.param("torchvision:shufflenet_v2_x0_5", {"img_size": 64}, marks=needs_torchvision),
        pytest.param("torchvision:vit_b_16", {"img_size": 64}, marks=needs_torchvision),
    ],
)
def test_an_image_size_is_for_models_that_take_any_size_too(
    name: str, stored: dict[str, int]
) -> None:
    with torch.device("meta"):
        model = zoo.create_model(name, img_size=64)
        assert model.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)
    assert model.pretrained_cfg.input.size == (64, 64)
    assert build_config(model)["model_args"] == stored  # timm reads its own


@needs_torchvision
def test_a_vit_of_torchvision_refuses_oblong_images() -> None:
    with pytest.raises(ConfigError, match="takes square images; got 64 x 96"):
        zoo.create_model("torchvision:vit_b_16", img_size=(64, 96))


@needs_torchvision
def test_weights_that_torchvision_cannot_download_are_a_network_error() -> None:
    with pytest.raises(NetworkError, match="torchvision:resnet18 asked for a file"):
        zoo.create_model("torchvision:resnet18", weights="DEFAULT")


@pytest.mark.parametrize(("plain", "average"), [("state_dict", "state_dict_ema"), ("model", "ema")])
def test_averaged_weights_that_are_left_out_are_named(
    plain: str, average: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = zoo.create_model("timm:lcnet_035", num_classes=2).state_dict()
    torch.save({plain: state, average: {"module": state}}, tmp_path / "mine.pth")
    create_from_file("timm:lcnet_035", tmp_path / "mine.pth")
    assert f"averaged weights too ({average}), which are left out" in caplog.text
    assert "`convattn import --ema` takes them instead" in caplog.text
    assert read_checkpoint((tmp_path / "mine.pth").read_bytes(), "mine", ema=True).path == (
        average, "module",
    )  # fmt: skip


@pytest.mark.parametrize(("plain", "average"), [("model.", "ema_model."), ("", "ema.")])
def test_averages_among_the_names_of_one_state_dict_are_named_and_taken(
    plain: str, average: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = zoo.create_model("convit_nano").state_dict()
    both = {plain + key: value for key, value in state.items()}
    both |= {average + key: value + 1 for key, value in state.items()}
    torch.save({"state_dict": both, "epoch": 3}, tmp_path / "mine.ckpt")
    taken = zoo.import_checkpoint(tmp_path / "mine.ckpt", "convit_nano", tmp_path / "plain")
    assert f"averaged weights too (state_dict.{average}), which are left out" in caplog.text
    averaged = zoo.import_checkpoint(
        tmp_path / "mine.ckpt", "convit_nano", tmp_path / "averaged", ema=True
    )
    for result, added in ((taken, 0), (averaged, 1)):
        found = zoo.create_model(result.directory, pretrained=True).state_dict()
        assert all(torch.equal(found[key], state[key] + added) for key in state)


def test_a_module_that_is_called_ema_is_no_average(tmp_path: Path) -> None:
    state = {
        "ema.conv.weight": torch.zeros(2),
        "conv.weight": torch.zeros(2),
        "ema.gain": torch.ones(1),
    }
    torch.save(state, tmp_path / "mine.pth")
    assert (
        read_checkpoint((tmp_path / "mine.pth").read_bytes(), "mine").tensors.keys() == state.keys()
    )


def test_averaged_weights_of_code_of_ones_own_have_a_way_that_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "from torch import nn\n"
        "def net(): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))\n"
    )
    state = {"2.weight": torch.zeros(2, 3), "2.bias": torch.zeros(2)}
    torch.save({"model": state, "model_ema": {**state, "2.bias": torch.ones(2)}}, "mine.pth")
    create_from_file("py:net.py:net", "mine.pth")
    exec(caplog.text.partition("of their own: ")[2].splitlines()[0], {"torch": torch})
    assert create_from_file("py:net.py:net", "averaged.pth")[2].bias.tolist() == [1, 1]


def test_an_instance_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from torch import nn\nnet = nn.Linear(3, 2)\n")
    with pytest.raises(ConfigError, match=r"is a module, not what makes one; .*`return net`"):
        zoo.create_model(f"py:{tmp_path / 'mine.py'}:net")
