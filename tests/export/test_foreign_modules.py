"""Modules that are none of ours: what their forward returns, and how they were left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

import export
from export.runtime.opening import open_onnx
from zoo import InputSpec
from zoo.errors import ConfigError, ExportError

SPEC = InputSpec(size=(8, 8), crop_pct=1.0)


class Net(nn.Module):
    """A convolution with batch norm and dropout, and a linear layer."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Any:
        x = self.drop(self.norm(self.conv(x)).relu())
        return self.head(x.mean((2, 3)))


class Named(Net):
    def forward(self, x: Tensor) -> Any:
        return {"logits": super().forward(x)}


class Twice(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x.mean()


def _trained(net: Net) -> Net:
    """With running statistics that differ from a batch's own."""
    torch.manual_seed(0)
    for _ in range(3):
        net(torch.randn(8, 3, 8, 8) * 3 + 1)
    return net


def _exported(net: nn.Module, path: Path, spec: InputSpec = SPEC) -> np.ndarray:
    assert export.to_onnx(net, path, input=spec)
    x = np.random.default_rng(0).standard_normal((3, 3, *spec.size), dtype=np.float32)
    answer: np.ndarray = open_onnx(path, untrusted=True).run(x)
    return answer


def test_a_model_left_in_training_is_exported_as_it_infers(tmp_path: Path) -> None:
    net = _trained(Net())
    assert net.training
    answer = _exported(net, tmp_path / "m.onnx")
    assert net.training  # and is left as it was
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8), dtype=np.float32)
    with torch.inference_mode():
        expected = net.eval()(torch.from_numpy(x)).numpy()
    assert np.allclose(answer, expected, atol=1e-6)


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    net = _trained(Net()).eval().half()
    answer = _exported(net, tmp_path / "m.onnx")
    assert answer.dtype == np.float32
    assert net.head.weight.dtype == torch.float16
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8), dtype=np.float32)
    with torch.inference_mode():
        assert np.allclose(answer, net.float()(torch.from_numpy(x)).numpy(), atol=1e-6)


def test_one_class_is_a_model_too(tmp_path: Path) -> None:
    assert _exported(_trained(Net(classes=1)), tmp_path / "m.onnx").shape == (3, 1)


def test_a_raw_model_of_timm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = timm.create_model("mobilenetv3_small_050", num_classes=5)
    spec = InputSpec(size=(32, 32), crop_pct=1.0)
    assert _exported(net, tmp_path / "m.onnx", spec).shape == (3, 5)


@pytest.mark.parametrize("kind", ["onnx", "torchscript", "pt2"])
def test_a_dictionary_of_one_tensor_is_that_tensor(kind: str, tmp_path: Path) -> None:
    net = _trained(Named()).eval()
    path = tmp_path / {"onnx": "m.onnx", "torchscript": "m.pt", "pt2": "m.pt2"}[kind]
    assert getattr(export, f"to_{kind}")(net, path, input=SPEC)
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8), dtype=np.float32)
    session, _ = export.open_file(path)
    with torch.inference_mode():
        expected = net(torch.from_numpy(x))["logits"].numpy()
    assert np.allclose(session(x), expected, atol=1e-6)


@pytest.mark.parametrize("write", [export.to_onnx, export.to_torchscript, export.to_pt2])
def test_two_outputs_are_refused(write: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        write(_trained(Twice()), tmp_path / "m.bin", input=SPEC)
    assert "2" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


class _Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = x.mean((2, 3))
        return -means if means.sum() > 0 else means


def test_a_branch_on_values_is_named_by_its_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = r"line \d+ of test_foreign_modules\.py \(return -means if .*\) depends on the values"
    with pytest.raises(ExportError, match=words):
        export.to_onnx(_Branching(), tmp_path / "m.onnx", input=SPEC)
    assert "torch.ops" not in "".join(capfd.readouterr())


def test_a_model_in_a_wrapper_is_the_model(tmp_path: Path) -> None:
    assert export.to_onnx(nn.DataParallel(Net()), tmp_path / "net.onnx", input=SPEC)


@pytest.mark.parametrize("write", [export.to_onnx, export.to_torchscript, export.to_pt2])
def test_the_arguments_of_torch_onnx_are_refused_with_ours(write: Any, tmp_path: Path) -> None:
    image = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ConfigError, match=r"path must be a path; got a Tensor\. No example"):
        write(Net(), image, str(tmp_path / "net"), input=SPEC)
    with pytest.raises(ConfigError, match="spec must be an ExportSpec; got a Tensor"):
        write(Net(), tmp_path / "net", image, input=SPEC)
    with pytest.raises(ConfigError, match="input must be an InputSpec; got a tuple"):
        write(Net(), tmp_path / "net", input=(16, 16))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [export.to_onnx, export.to_torchscript, export.to_pt2])
def test_a_size_that_the_model_itself_refuses_is_bad_input(write: Any, tmp_path: Path) -> None:
    model = timm.create_model("test_vit", num_classes=3)
    with pytest.raises(ConfigError, match=r"fails on images of 3 x 63 x 63 .* AssertionError"):
        write(model, tmp_path / "net", input=InputSpec(size=(63, 63)))
    assert list(tmp_path.iterdir()) == []
