"""info and cite: what is known of any reference and any file is said, and nothing of it runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from zoo.cli import main

WEIGHTS = (
    Path(__file__).parents[2] / "zoo/catalog/shipped/weights/resnet_nano.digits-1.0.0.safetensors"
)


def told(capsys: pytest.CaptureFixture[str], *args: str, status: int = 0) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(args))
    printed = capsys.readouterr()
    assert (stopped.value.code or 0) == status, printed.err
    return printed.err if status else printed.out


def facts(capsys: pytest.CaptureFixture[str], *args: str) -> dict:
    return json.loads(told(capsys, "info", *args, "--json"))


def test_a_run_says_what_it_trained_and_what_came_out(
    tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = facts(capsys, str(tiny_run))
    metrics = json.loads((tiny_run / "metrics.json").read_text())
    assert (found["kind"], found["family"], found["num_classes"]) == ("directory", "convit", 10)
    assert found["metrics"]["test"]["correct"] == metrics["test"]["correct"]
    assert found["files"]["model.safetensors"] == (tiny_run / "model.safetensors").stat().st_size
    assert "GPSA" in told(capsys, "cite", str(tiny_run))
    text = told(capsys, "info", str(tiny_run))
    assert "--json shows them" in text
    assert max(map(len, text.splitlines())) < 600


def test_a_model_of_timm_is_counted_without_its_weights(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = facts(capsys, "timm:resnet18")
    assert (found["kind"], found["params"], found["num_classes"]) == ("timm", 11_689_512, 1000)
    assert "wightman2019timm" in told(capsys, "cite", "timm:resnet18")


def test_keywords_change_what_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert facts(capsys, "timm:resnet18", "--set", "num_classes=3")["params"] == 11_178_051


def test_an_onnx_file_of_others_is_described_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weight = onnx.numpy_helper.from_array(np.ones(3, np.float32).reshape(3, 1, 1), "w")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    path = tmp_path / "other.onnx"
    model = helper.make_model(graph, producer_name="someone", ir_version=8)
    path.write_bytes(model.SerializeToString())
    found = facts(capsys, str(path))
    assert (found["inputs"], found["operators"]) == ({"x": ["n", 3, 4, 4]}, {"Mul": 1})
    assert (found["producer"], found["initializers"]) == ("someone", 1)
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_of_weights_says_what_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, str(WEIGHTS))
    assert (found["kind"], found["tensors"]) == ("safetensors", 74)
    assert found["sha256"].startswith("ebdfec78ef32a0dc")
    assert "does not say what architecture" in told(capsys, "cite", str(WEIGHTS), status=3)


def test_a_file_that_is_damaged_or_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no onnx")
    assert "not an ONNX model" in told(capsys, "info", str(tmp_path / "x.onnx"), status=3)
    (tmp_path / "x.pth").write_bytes(b"no weights")
    assert "x.pth" in told(capsys, "info", str(tmp_path / "x.pth"), status=3)


def test_keywords_that_change_nothing_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for reference in ("resnet_nano", str(WEIGHTS)):
        error = told(capsys, "info", reference, "--set", "depth=1", status=2)
        assert "--set changes nothing in what is known about" in error
    error = told(capsys, "pin", "org/name", "--update", "--remove", status=2)
    assert "give one of --update and --remove" in error
