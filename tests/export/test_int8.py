"""int8: what stays float32, what it is calibrated on, and what it may lose."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import QuantType, quantize_dynamic
from PIL import Image

import export
import zoo
from export.formats.metadata import describe
from export.graph.int8 import _mostly_convolutions
from export.parity import exactness
from export.parity.calibration import OwnImages, calibration_batches, top1_loss
from export.parity.inputs import make_inputs
from export.runtime import arithmetic
from export.runtime.opening import open_onnx
from export.spec import ExportSpec
from export.writer import ArtefactWriter
from zoo.catalog.tables import sample_images
from zoo.cli import main
from zoo.data.dataset import in_memory
from zoo.data.opening import open_dataset
from zoo.data.preprocessing import preprocess
from zoo.errors import DatasetError, ExportError, ParityError
from zoo.factory.create import create_random

EXAMPLES = Path(__file__).parents[2] / "examples"
STATIC = "onnx/model_int8.onnx"
DYNAMIC = "onnx/model_quantized.onnx"


def run_export(out: Path, *options: str) -> int:
    """Run the command in this process and return its exit code."""
    words = ["export", "convit_nano", "--out", str(out), "--format", "onnx", "--json"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, *options])
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    "name", ["convit_nano", pytest.param("conv_attention_vit_nano", marks=pytest.mark.slow)]
)
def test_static_int8_stays_near_float64_on_every_kind_of_input(name: str, tmp_path: Path) -> None:
    model = zoo.create_model(name, pretrained=True)
    made = ArtefactWriter(model, describe(model), ExportSpec(batches=(1, 5)), tmp_path)
    made.write_precision("int8-static")
    far = {row.inputs: row.relative_l2 for row in made.rows if not row.relative_l2 <= 0.1}
    assert not far
    kinds = {"noise", "real", "constant", "extreme", "neighbours"}
    assert {row.inputs for row in made.rows} == kinds
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


def test_a_model_of_other_data_is_calibrated_on_our_digits_beside_what_is_made() -> None:
    cfg = create_random("resnet_nano", 0).pretrained_cfg
    batches, said = calibration_batches(replace(cfg, labels=()), None)
    assert said == "10 sample images, 24 of noise, constants and extreme values"
    assert {batch.shape for batch in batches} == {(1, cfg.input.in_chans, *cfg.input.size)}
    digits = [preprocess(path, cfg.input) for path in sample_images("digits")]
    np.testing.assert_array_equal(np.concatenate(batches[:10]), np.stack(digits))
    made = make_inputs(cfg.input, 1001).batch
    np.testing.assert_array_equal(np.concatenate(batches[10:16]), made[[0, 1, 2, 3, 8, 9]])


def test_static_int8_is_calibrated_on_a_folder_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--precision", "int8-static", "--calibration", str(EXAMPLES))
    assert run_export(tmp_path, *options) == 0
    found = json.loads(capsys.readouterr().out)["attestation"][STATIC]["calibration"]
    count = len(list(EXAMPLES.glob("*.png")))
    assert found == f"{count} of your own, 24 of noise, constants and extreme values"


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Class folders of digits: three files of each."""
    root = tmp_path / "scans"
    images = open_dataset("digits", "test")
    for number in range(10):
        (root / str(number)).mkdir(parents=True)
        for index in (images.targets == number).nonzero()[0][:3]:
            Image.fromarray(images[int(index)][0]).save(root / str(number) / f"{index}.png")
    return root


@pytest.mark.parametrize("option", ["--data", "--calibration"])
def test_int8_is_calibrated_and_judged_on_class_folders_of_ones_own(
    option: str, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--precision", "int8-static", option, str(scans))
    assert run_export(tmp_path / "out", *options) == 0
    found = json.loads(capsys.readouterr().out)["attestation"][STATIC]
    assert found["calibration"] == "10 of your own, 24 of noise, constants and extreme values"
    assert (found["accuracy"]["data"], found["accuracy"]["images"]) == ("scans/validation", 10)


def test_an_int8_file_that_loses_accuracy_on_ones_own_images_is_not_written(
    scans: Path, tmp_path: Path
) -> None:
    model = zoo.create_model("convit_nano", pretrained=True)
    strict = ExportSpec(int8_top1_loss=-101.0, batches=(1,))
    with pytest.raises(ParityError, match=r"loses .* on the 10 images of scans/validation"):
        export.export_model(
            model, tmp_path / "out", ["onnx"], strict, precisions=["int8"], data=scans
        )
    assert not (tmp_path / "out").exists()


def test_images_of_other_classes_judge_no_int8(scans: Path, tmp_path: Path) -> None:
    (scans / "9").rename(scans / "nine")
    model = zoo.create_model("convit_nano", pretrained=True)
    with pytest.raises(DatasetError, match="does not know nine"):
        export.export_model(model, tmp_path / "out", ["onnx"], precisions=["int8"], data=scans)


@pytest.mark.parametrize("option", ["--data", "--calibration"])
def test_images_for_int8_without_int8_are_refused(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--precision", "float16", option, str(tmp_path))
    assert run_export(tmp_path / "out", *options) == 3
    assert "images for int8 files, and none is asked for" in capsys.readouterr().err
    words = ["bundle", "convit_nano", "--out", str(tmp_path / "out"), "--data", "digits"]
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--no-quantized"])
    assert "give it or --no-quantized" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_class_folders_to_calibrate_on_judge_int8_and_others_are_refused(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--precision", "int8", "--calibration", str(scans))
    assert run_export(tmp_path / "out", *options) == 0
    found = json.loads(capsys.readouterr().out)["attestation"][DYNAMIC]["accuracy"]
    assert (found["data"], found["images"]) == ("scans/validation", 10)
    assert run_export(tmp_path / "other", *options, "--data", "digits") == 3
    assert "calibration is for int8-static" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_calibration_on_a_folder_that_is_not_there_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "missing")
    options = ("--precision", "int8-static", "--calibration", missing)
    assert run_export(tmp_path / "out", *options) == 3
    assert f"{missing!r} is not a folder; check the path" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not (tmp_path / "out").exists()


def test_the_loss_is_what_is_right_without_int8_less_what_is_right_with_it() -> None:
    """Four images whose grey level is their class: the model knows all, the file one of them."""
    targets = np.arange(4)
    images = np.full((4, 32, 32, 3), 60 * targets[:, None, None, None], np.uint8)
    labelled = in_memory("toy", ("a", "b", "c", "d"), images, targets)
    cfg = describe(zoo.create_model("convit_nano", num_classes=4))
    mean, std = cfg.input.mean[0], cfg.input.std[0]

    def knows(batch: np.ndarray) -> np.ndarray:
        grey = 255 * (batch[:, 0, 0, 0] * std + mean)
        return np.eye(4)[(grey / 60).round().astype(int)]

    def always_the_second(batch: np.ndarray) -> np.ndarray:
        return np.eye(4)[np.ones(len(batch), int)]

    found = top1_loss(always_the_second, knows, cfg, OwnImages((), labelled))
    assert found == {
        "data": "toy", "images": 4, "top1_percent": 25.0, "float32_top1_percent": 100.0,
        "top1_loss_points": 75.0,
    }  # fmt: skip
    again = top1_loss(always_the_second, None, cfg, OwnImages((), labelled), known=75.0)
    assert again["top1_loss_points"] == 50.0  # the model is not run again


def test_an_int8_file_that_loses_accuracy_is_not_written(tmp_path: Path) -> None:
    """The limit asks for a gain of more than all points, which no file has."""
    model = zoo.create_model("convit_nano", pretrained=True)
    strict = ExportSpec(int8_top1_loss=-101.0, batches=(1,))
    with pytest.raises(ParityError, match=r"top-1 on the \d+ images of digits/validation"):
        export.export_model(model, tmp_path / "out", ["onnx"], strict, precisions=["int8"])
    assert not (tmp_path / "out").exists()


def _loses_three_points(*_: Any) -> dict[str, Any]:
    return {"data": "digits/validation", "images": 100, "top1_loss_points": 3.0}


def test_allowed_drift_is_said_on_stderr_in_the_report_and_in_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("export.parity.calibration.top1_loss", _loses_three_points)
    assert run_export(tmp_path / "a", "--precision", "int8") == 7
    assert "loses 3.00 points" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()

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


@pytest.mark.parametrize(("sides", "convolutions"), [((2, 1), True), ((1, 1), False)])
def test_weights_say_what_a_graph_mostly_is_not_products_of_activations(
    sides: tuple[int, int], convolutions: bool
) -> None:
    """Weights of one convolution and one product, beside three products of activations."""
    nodes = [helper.make_node("Conv", ["x", "c"], ["y"])]
    nodes += [helper.make_node("MatMul", ["y", name], [f"z{name}"]) for name in ("m", *"xyx")]
    stored = {"c": np.ones((sides[0], 1, 1, 1)), "m": np.ones(sides[1:])}
    weights = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    proto = helper.make_model(helper.make_graph(nodes, "g", [], [], weights))
    assert _mostly_convolutions(proto) is convolutions


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ArtefactWriter:
    """float32, float16 and both int8 files of a trained model."""
    model = zoo.create_model("convit_nano", pretrained=True)
    folder = tmp_path_factory.mktemp("precisions")
    writer = ArtefactWriter(model, describe(model), ExportSpec(batches=(1, 2)), folder)
    writer.write(["onnx"], ["float16", "int8", "int8-static"], [])
    return writer


@pytest.mark.parametrize("file", [STATIC, DYNAMIC])
def test_int8_weights_are_unsigned_and_every_product_is_the_reference_evaluators(
    made: ArtefactWriter, file: str
) -> None:
    graph = onnx.load(made.folder / file).graph
    assert TensorProto.INT8 not in {weight.data_type for weight in graph.initializer}
    notes = made.attestation[file]
    assert notes["integer_products"] == notes["quantised_nodes"] >= 20
    assert max(notes["from_reference_evaluator"].values()) <= 1e-2
    assert notes["integer_arithmetic"] == arithmetic.integer_arithmetic()


def test_static_int8_takes_convolutions_and_dynamic_int8_what_the_model_mostly_is(
    made: ArtefactWriter,
) -> None:
    assert made.attestation[STATIC]["of_types"] == ["Conv", "MatMul"]
    assert made.attestation[DYNAMIC]["of_types"] == ["MatMul"]


def test_an_int8_file_with_signed_weights_is_refused(made: ArtefactWriter, tmp_path: Path) -> None:
    signed = tmp_path / "signed.onnx"
    quantize_dynamic(made.folder / "onnx/model.onnx", signed, weight_type=QuantType.QInt8)
    with pytest.raises(ExportError, match="26 of 26 quantised weights are not unsigned") as refused:
        exactness.check_exactness(signed, made.references)
    assert refused.value.code == "inexact"


def test_a_runtime_whose_products_differ_by_one_is_refused(
    made: ArtefactWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = exactness._runtime_answers

    def off_by_one(*given: Any) -> list[Any]:
        first, *others = right(*given)
        first.flat[-1] += 1
        return [first, *others]

    monkeypatch.setattr(exactness, "_runtime_answers", off_by_one)
    with pytest.raises(ExportError, match="1 of 25 integer products differ"):
        exactness.check_exactness(made.folder / DYNAMIC, made.references)


def test_a_runtime_that_strays_from_the_reference_evaluator_is_refused(
    made: ArtefactWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def zeros(_: Path) -> Any:
        return SimpleNamespace(run_named=lambda _: {"logits": np.zeros((1, 10), np.float32)})

    monkeypatch.setattr(exactness, "open_onnx", zeros)
    with pytest.raises(ExportError, match="from the reference evaluator on noise inputs"):
        exactness.check_exactness(made.folder / STATIC, made.references)


@pytest.mark.parametrize(("far", "passes"), [(1.9, True), (3.0, False)])
def test_another_rounding_may_be_as_far_on_the_other_side_and_no_farther(
    far: float, passes: bool, made: ArtefactWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deep models: evaluator and runtime each 0.036 from float64, and 0.042 from each other."""
    path = made.folder / STATIC
    evaluator = ReferenceEvaluator(exactness.load_model(path))
    found = made.references.at(made.axes.sizes[0])["logits"]

    def run(batch: Any) -> Any:
        (exact,) = evaluator.run(["logits"], {"pixel_values": batch})
        rows = [bool((image == batch[0]).all()) for image in found.inputs.batch]
        return {"logits": exact + far * (found.logits[rows.index(True)] - exact)}

    monkeypatch.setattr(exactness, "open_onnx", lambda _: SimpleNamespace(run_named=run))
    if passes:
        exactness.check_exactness(path, made.references)
        return
    with pytest.raises(ExportError, match="from the reference evaluator"):
        exactness.check_exactness(path, made.references)


@pytest.mark.slow
def test_a_deep_model_of_full_size_has_an_int8_file(tmp_path: Path) -> None:
    model = create_random("convit_tiny", 0)
    spec = ExportSpec(batches=(1,))
    made = export.export_model(model, tmp_path / "out", ("onnx",), spec, precisions=["int8-static"])
    assert made.report


def test_the_probe_of_the_processors_arithmetic_is_one_integer_product() -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [value("a", TensorProto.UINT8, ["m", "k"]), value("b", TensorProto.INT8, ["k", "n"])],
        [value("c", TensorProto.INT32, ["m", "n"])],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert arithmetic.PRODUCT == built.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("pair", "said"), [(2 * 255 * 127, arithmetic.EXACT), (32767, arithmetic.SATURATING)]
)
def test_a_processor_that_adds_pairs_in_16_bits_is_told_from_one_that_does_not(
    pair: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [np.full((8, 8), 32 * pair, np.int32)]
    session = SimpleNamespace(run=lambda *_: answers)
    runtime = SimpleNamespace(InferenceSession=lambda *_, **__: session)
    monkeypatch.setattr(arithmetic, "import_runtime", lambda: runtime)
    assert arithmetic.integer_arithmetic.__wrapped__() == said


def test_only_dynamic_int8_answers_otherwise_beside_other_images(made: ArtefactWriter) -> None:
    rows = {row.file: row for row in made.rows if row.inputs == "neighbours"}
    changed = {file for file, row in rows.items() if row.max_abs_error > row.eager_max_abs_error}
    assert len(rows) == 4
    assert changed == {DYNAMIC}
    assert 1e-3 < rows[DYNAMIC].relative_l2 < 0.2
    summary = {row["file"]: row for row in made.report().summary()}
    assert summary[DYNAMIC]["neighbours_max_abs_error"] == rows[DYNAMIC].max_abs_error
    assert summary[STATIC]["neighbours_max_abs_error"] == rows[STATIC].max_abs_error


def test_dynamic_int8_says_of_itself_that_its_batch_matters(made: ArtefactWriter) -> None:
    said = {
        path.name: {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        for path in (made.folder / "onnx").glob("*.onnx")
    }
    stating = [name for name, metadata in said.items() if "batch_dependent" in metadata]
    assert stating == [Path(DYNAMIC).name]
    assert said[stating[0]]["batch_dependent"] == "true"


def test_no_file_states_the_shape_of_a_weight_twice(made: ArtefactWriter) -> None:
    for path in (made.folder / "onnx").glob("*.onnx"):
        graph = onnx.load(path).graph
        weights = {weight.name for weight in graph.initializer}
        assert not weights & {value.name for value in graph.value_info}, path.name


EMULATOR = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
# AVX2 without VNNI; what follows are features that the emulator lacks and would warn of
HASWELL = "Haswell,-pcid,-x2apic,-tsc-deadline,-hle,-invpcid,-rtm"
ELSEWHERE = """
import sys
sys.path[:0] = sys.argv[1].split(":")
import numpy as np, onnxruntime
for file in sys.argv[3:]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    np.save(file + ".npy", session.run(None, {"pixel_values": np.load(sys.argv[2])})[0])
from export.runtime.arithmetic import integer_arithmetic
print(integer_arithmetic())
"""


@pytest.mark.slow
@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-user-static (apt install it)")
def test_int8_files_answer_alike_on_a_processor_without_vnni(
    made: ArtefactWriter, tmp_path: Path
) -> None:
    files = [shutil.copy(made.folder / file, tmp_path) for file in (STATIC, DYNAMIC)]
    inputs = made.references.at(made.axes.sizes[0])["logits"].inputs
    np.save(tmp_path / "inputs.npy", inputs.batch)
    python = os.path.realpath(sys.executable)
    command = [
        str(EMULATOR), "-cpu", HASWELL, python, "-c", ELSEWHERE, ":".join(filter(None, sys.path)),
        str(tmp_path / "inputs.npy"), *map(str, files),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=True)
    assert done.stdout.strip() == arithmetic.SATURATING
    for file in files:
        here = open_onnx(file).run(inputs.batch)
        there = np.load(f"{file}.npy")
        assert np.linalg.norm(there - here) / np.linalg.norm(here) < 1e-2
