"""int8: what stays float32, what it is calibrated on, and what it may lose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

import export
import zoo
from export.artefacts import ArtefactWriter
from export.description import describe
from export.spec import ExportSpec
from zoo.cli import main
from zoo.errors import ParityError
from zoo.factory import create_random

EXAMPLES = Path(__file__).parents[2] / "examples"
STATIC = "onnx/model_int8.onnx"
DYNAMIC = "onnx/model_quantized.onnx"


def run_export(out: Path, *options: str) -> int:
    """Run the command in this process and return its exit code."""
    words = ["export", "convit_nano", "--out", str(out), "--format", "onnx", "--json"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, *options])
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("name", ["convit_nano", "conv_attention_vit_nano"])
def test_static_int8_stays_near_float64_on_every_kind_of_input(name: str, tmp_path: Path) -> None:
    model = zoo.create_model(name, pretrained=True)
    made = ArtefactWriter(model, describe(model), ExportSpec(batches=(1, 5)), tmp_path)
    made.write_precision("int8-static")
    far = {row.inputs: row.relative_l2 for row in made.rows if not row.relative_l2 <= 0.1}
    assert not far
    assert {row.inputs for row in made.rows} == {"noise", "real", "constant", "extreme"}
    notes = made.attestation[STATIC]
    assert notes["calibration"] == (
        "128 of digits/train, 24 of noise, constants and extreme values"
    )
    assert notes["accuracy"]["top1_loss_points"] <= 0.5


def test_the_first_and_the_last_product_of_static_int8_stay_float32(tmp_path: Path) -> None:
    model = create_random("convit_nano", 0)
    made = ArtefactWriter(model, describe(model), ExportSpec(batches=(1,)), tmp_path)
    made.write_precision("int8-static")
    graph = onnx.load(tmp_path / STATIC).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    products = [node for node in graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    weighted = [makers.get(node.input[1]) for node in products]
    assert products[0].input[0] == "pixel_values"
    assert weighted[0] is None
    assert weighted[-1] is None
    assert weighted.count("DequantizeLinear") >= 10


def test_static_int8_is_calibrated_on_a_folder_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--precision", "int8-static", "--calibration", str(EXAMPLES))
    assert run_export(tmp_path, *options) == 0
    found = json.loads(capsys.readouterr().out)["attestation"][STATIC]["calibration"]
    count = len(list(EXAMPLES.glob("*.png")))
    assert found == f"{count} of your own, 24 of noise, constants and extreme values"


def test_calibration_on_a_folder_that_is_not_there_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "missing")
    options = ("--precision", "int8-static", "--calibration", missing)
    assert run_export(tmp_path / "out", *options) == 3
    assert f"no such file: {missing!r}" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_an_int8_file_that_loses_accuracy_is_not_written(tmp_path: Path) -> None:
    """The limit asks for a gain of more than all points, which no file has."""
    model = zoo.create_model("convit_nano", pretrained=True)
    strict = ExportSpec(int8_top1_loss=-101.0, batches=(1,))
    with pytest.raises(ParityError, match=r"loses .* points of top-1 on digits/validation"):
        export.export_model(model, tmp_path / "out", ["onnx"], strict, precisions=["int8"])
    assert not list((tmp_path / "out").iterdir())


def _loses_three_points(*_: Any) -> dict[str, Any]:
    return {"data": "digits/validation", "images": 100, "top1_loss_points": 3.0}


def test_allowed_drift_is_said_on_stderr_in_the_report_and_in_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("export.graph.quantization.top1_loss", _loses_three_points)
    assert run_export(tmp_path / "a", "--precision", "int8") == 7
    assert "loses 3.00 points" in capsys.readouterr().err
    assert not list((tmp_path / "a").iterdir())

    assert run_export(tmp_path / "b", "--precision", "int8", "--allow-drift") == 0
    said = capsys.readouterr()
    assert f"despite a failing verdict (--allow-drift): {DYNAMIC}" in said.err
    report = json.loads(said.out)
    assert (report["passed"], report["drift_allowed"]) == (False, True)
    assert {row["file"] for row in report["rows"] if not row["passed"]} == {DYNAMIC}
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["convattn"]["drift_allowed"] is True


def test_a_passing_export_does_not_speak_of_drift(tmp_path: Path) -> None:
    model = zoo.create_model("convit_nano", pretrained=True)
    spec = ExportSpec(batches=(1,))
    result = export.export_model(model, tmp_path, ["onnx"], spec, allow_drift=True)
    assert result.report
    assert not result.report.drift_allowed
    assert "drift_allowed" not in (tmp_path / "config.json").read_text()
