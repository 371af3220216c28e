"""Models that others wrote, by reference: one's own code, torchvision, transformers."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import zoo
from zoo.cli import main
from zoo.errors import ConfigError, MissingDependencyError, NoWeightsError, ZooError
from zoo.factory.config_json import build_config
from zoo.factory.create import create_from_file, create_random, load_model
from zoo.factory.description import Stated
from zoo.files.local import sha256_bytes
from zoo.weights.safetensors_file import weights_bytes

CODE = """
import torch
from torch import nn
from helpers_of_mine import WIDTH

class Net(nn.Module):
    pretrained_cfg = dict(input_size=(3, 24, 32), mean=(0.5,) * 3, std=(0.25,) * 3,
                          interpolation="bilinear", crop_pct=1.0, label_names=["cat", "dog"])

    def __init__(self, width: int = WIDTH, num_classes: int = 2):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))

class Fixed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(3 * 8 * 12, 5))

class Plain(nn.Sequential):
    def __init__(self):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))

def trained(shift: float = 0.0):
    torch.manual_seed(7)
    net = Net()
    with torch.no_grad():
        net.head.bias.fill_(shift)
    return net

def broken():
    raise RuntimeError("the disk is elsewhere")

def no_module():
    return 3

def maps():
    return nn.Conv2d(3, 2, 1)
"""
needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"
)
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)


@pytest.fixture
def code(tmp_path: Path) -> str:
    """``py:FILE.py`` without the name."""
    (tmp_path / "mine.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "helpers_of_mine.py").write_text("WIDTH = 4\n", encoding="utf-8")
    return f"py:{tmp_path / 'mine.py'}"


def test_a_function_of_ones_own_returns_the_model_with_its_weights(code: str) -> None:
    model = zoo.create_model(f"{code}:trained", pretrained=True, shift=3.0)
    cfg = model.pretrained_cfg
    assert (cfg.name, cfg.num_classes) == ("py:mine.py:trained.own", 2)
    assert (cfg.input.size, cfg.input.std, cfg.input.crop_pct) == ((24, 32), (0.25,) * 3, 1.0)
    assert cfg.labels == ("cat", "dog")
    assert model.training
    assert model.head.bias.tolist() == [3.0, 3.0]
    assert str(Path(code[3:]).parent) not in sys.path


def test_a_class_of_ones_own_has_random_weights_or_those_of_a_file(
    code: str, tmp_path: Path
) -> None:
    with pytest.raises(NoWeightsError, match="a class"):
        zoo.create_model(f"{code}:Net", pretrained=True)
    first = create_random(f"{code}:Net", 5, width=6)
    assert first.pretrained_cfg.name == "py:mine.py:Net.random"
    assert torch.equal(first.conv.weight, create_random(f"{code}:Net", 5, width=6).conv.weight)
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in first.state_dict().items()}},
        tmp_path / "w.pth",
    )
    loaded = load_model(f"{code}:Net", str(tmp_path / "w.pth"), width=6)
    assert torch.equal(loaded.conv.weight, first.conv.weight)
    assert loaded.pretrained_cfg.tag == "custom"
    bare = load_model(f"{code}:Net", str(tmp_path / "w.pth"), width=6, num_classes=0)
    assert bare(torch.zeros(1, 3, 8, 8)).shape == (1, 6)


def test_what_is_assumed_of_images_is_said(code: str, caplog: pytest.LogCaptureFixture) -> None:
    assert create_random(f"{code}:Plain", 0).pretrained_cfg.num_classes == 5
    assert "224 x 224 pixels and ImageNet's mean" in caplog.text


def test_a_size_that_the_code_does_not_take_says_what_it_is_for(
    code: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = create_random(f"{code}:Fixed", 0, img_size=(8, 12))
    assert model.pretrained_cfg.input.size == (8, 12)
    assert model.pretrained_cfg.num_classes == 5
    assert "does not say" not in caplog.text
    words = ["export", f"{code}:Fixed", "--init", "0", "--img-size", "8,12", "--format", "onnx"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--out", str(tmp_path / "out")])
    assert not stopped.value.code
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert config["pretrained_cfg"]["input_size"] == [3, 8, 12]


@pytest.mark.parametrize(
    ("name", "keywords", "error", "said"),
    [
        ("Nett", {}, "unknown_model", "did you mean 'Net'?"),
        ("nn", {}, "unknown_model", "it defines Net"),
        ("broken", {}, "own_code", "raised RuntimeError: the disk is elsewhere"),
        ("no_module", {}, "own_code", "returned int"),
        ("maps", {}, "own_code", "must return logits"),
        ("Net", {"widht": 3}, "unknown_argument", "did you mean 'width'?"),
        ("Net", {"width": "x"}, "own_code", "raised TypeError"),
        ("Net", {"num_classes": 3}, "own_code", "3 classes and names 2 labels"),
        ("Fixed", {}, "own_code", "say so: --set img_size=N"),
        ("Fixed", {"img_size": 8}, "own_code", "on an image of 8 x 8"),
        ("Fixed", {"img_size": 8.5}, "record", "size must be"),
    ],
)
def test_faults_of_ones_own_code_are_told(
    name: str, keywords: dict[str, Any], error: str, said: str, code: str
) -> None:
    with pytest.raises(ZooError) as caught:
        zoo.create_model(f"{code}:{name}", **keywords)
    assert caught.value.code == error
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_directory_never_runs_the_code_that_it_names(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, place = tmp_path / "out", code.removeprefix("py:")
    with pytest.raises(SystemExit) as stopped:
        main(["export", f"{code}:trained", "--out", str(out)])  # .onnx and TorchScript
    assert not stopped.value.code
    config = json.loads((out / "config.json").read_text("utf-8"))
    assert config["convattn"]["architecture"] == "py:mine.py:trained"
    assert str(tmp_path) not in (out / "config.json").read_text("utf-8")
    Path(place).write_text("raise SystemExit('it ran')", encoding="utf-8")
    with pytest.raises(ConfigError, match="code of one's own") as caught:
        zoo.create_model(str(out), pretrained=True)
    assert caught.value.code == "own_code"
    picture = Path(__file__).parents[2] / "examples" / "digit_7.png"
    for verb in (["verify", str(out)], ["predict", str(out), str(picture)]):
        with pytest.raises(SystemExit) as stopped:
            main(verb)
        assert not stopped.value.code
        assert "not run" not in capsys.readouterr().out


@needs_torchvision
def test_torchvision_models_have_torchvisions_preprocessing_and_widths() -> None:
    import torchvision

    model = create_random("torchvision:squeezenet1_1", 0, num_classes=3)
    theirs = torchvision.models.squeezenet1_1(num_classes=3)
    assert model.state_dict().keys() == theirs.state_dict().keys()
    spec = model.pretrained_cfg.input
    assert (spec.size, spec.interpolation, spec.crop_pct) == ((224, 224), "bilinear", 0.875)
    assert model.num_classes == 3
    with pytest.raises(NoWeightsError, match="convattn import FILE --model torchvision:resnet18"):
        zoo.create_model("torchvision:resnet18", pretrained=True)
    with pytest.raises(ZooError, match="did you mean 'resnet18'"):
        zoo.create_model("torchvision:resnet81")


@pytest.mark.parametrize("kind", ["timm", pytest.param("torchvision", marks=needs_torchvision)])
def test_the_number_of_classes_is_found_in_the_weights(kind: str, tmp_path: Path) -> None:
    wanted = create_random(f"{kind}:resnet18", 0, num_classes=4)
    safetensors.torch.save_file(wanted.state_dict(), str(tmp_path / "w.safetensors"))
    model = create_from_file(f"{kind}:resnet18", str(tmp_path / "w.safetensors"))
    assert model.pretrained_cfg.num_classes == 4
    assert torch.equal(model.fc.weight, wanted.fc.weight)
    stated = Stated(labels=tuple("abcd"), mean=(0.0, 0.1, 0.2), crop_pct=1.0)
    out = tmp_path / "out"
    zoo.import_checkpoint(tmp_path / "w.safetensors", f"{kind}:resnet18", out, stated=stated)
    again = zoo.create_model(str(out), pretrained=True)
    assert again.pretrained_cfg.labels == ("a", "b", "c", "d")
    assert again.pretrained_cfg.input.mean == (0.0, 0.1, 0.2)
    assert torch.equal(again.fc.weight, wanted.fc.weight)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, reference in (("torchvision", "torchvision:resnet18"), ("transformers", "hf:there")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingDependencyError, match=f"pip install {name}"):
            zoo.create_model(reference)


def test_weights_of_timm_are_those_of_its_repository_or_none() -> None:
    """What would be downloaded, without the download."""
    from zoo.factory.timm_models import of_timm

    plan = of_timm("timm:resnet18", True, {})
    assert (plan.what, plan.adapt) == ("timm/resnet18.a1_in1k", False)
    assert (plan.described.tag, len(plan.described.labels)) == ("a1_in1k", 1000)
    assert of_timm("timm:resnet18", True, {"num_classes": 3}).adapt
    with pytest.raises(NoWeightsError, match="timm has no Hub weights for 'timm:botnet50ts_256'"):
        of_timm("timm:botnet50ts_256", True, {})


@needs_transformers
@pytest.mark.parametrize("kind", ["ViT", "DeiT", "Swin"])
def test_a_classifier_of_transformers_gives_its_logits(kind: str, tmp_path: Path) -> None:
    import transformers

    shape: dict[str, Any] = {"image_size": 32, "patch_size": 4, "id2label": {0: "cat", 1: "dog"}}
    if kind == "Swin":
        shape |= {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
    else:
        shape |= {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        shape |= {"intermediate_size": 32}
    config = getattr(transformers, f"{kind}Config")(**shape)
    theirs = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    theirs.save_pretrained(tmp_path / "net")
    processor = {
        "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4] * 3, "resample": 3,
        "do_center_crop": True,
        "size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32},
    }  # fmt: skip
    (tmp_path / "net" / "preprocessor_config.json").write_text(json.dumps(processor))
    model = zoo.create_model(f"hf:{tmp_path / 'net'}", pretrained=True).eval()
    cfg = model.pretrained_cfg
    assert (cfg.labels, cfg.input.mean) == (("cat", "dog"), (0.1, 0.2, 0.3))
    assert (cfg.input.size, cfg.input.interpolation) == ((32, 32), "bicubic")
    assert cfg.input.crop_pct == pytest.approx(32 / 36)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x), theirs(x).logits)
    assert str(tmp_path) not in json.dumps(dict(cfg.model_args))
    (tmp_path / "own").mkdir()  # as train and import store it
    weights = weights_bytes(model)
    stated = build_config(model, sha256_bytes(weights))
    (tmp_path / "own" / "config.json").write_text(json.dumps(stated))
    (tmp_path / "own" / "model.safetensors").write_bytes(weights)
    assert torch.equal(zoo.create_model(str(tmp_path / "own"), pretrained=True).eval()(x), model(x))
    new = zoo.create_model(f"hf:{tmp_path / 'net'}", pretrained=True, num_classes=5)
    assert new(x).shape == (2, 5)
    features = zoo.create_model(f"hf:{tmp_path / 'net'}", pretrained=True, num_classes=0)
    assert features(x).ndim == 2


@needs_transformers
def test_without_a_processor_images_are_prepared_as_transformers_does(tmp_path: Path) -> None:
    """Its own processors of ViT scale grey levels to -1 .. 1 and crop nothing."""
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {"model_type": "vit", "image_size": 32, "patch_size": 8, **shape}
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))
    cfg = zoo.create_model(f"hf:{tmp_path}", pretrained=False).pretrained_cfg
    assert (cfg.input.mean, cfg.input.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (cfg.input.size, cfg.input.crop_pct) == ((32, 32), 1.0)


@needs_transformers
@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"num_labels": 10**9}, "num_labels=1000000000"),
        ({"id2label": {"0": "a"}, "nested": {"size": [10**7]}}, "nested=10000000"),
        ({"num_hidden_layers": 100_000}, "more than"),
        ({"hidden_size": 65_536, "num_attention_heads": 8}, "more than 2147483648 parameters"),
        ({"hidden_act": "wave"}, "cannot be built"),
    ],
)
def test_a_configuration_of_transformers_without_end_is_refused(
    said: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = {"model_type": "vit", "architectures": ["ViTForImageClassification"], **said}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message) as caught:
        zoo.create_model(f"hf:{tmp_path}", pretrained=False)
    assert len(str(caught.value)) <= 300
