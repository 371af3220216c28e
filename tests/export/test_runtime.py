"""Inference with exported files: threads, names, warm-up, and input that must be refused."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import export
import zoo
from export.runtime.doctor import PROBE
from export.runtime.opening import open_onnx, open_predictor, open_session
from export.runtime.providers import SessionSettings
from zoo.cli.evaluate import evaluate_command
from zoo.errors import (
    ConfigError,
    ExportError,
    InputError,
    IntegrityError,
    ModelFileError,
    ZooError,
)
from zoo.files.manifest import make_manifest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.png"))


@pytest.fixture(scope="module")
def session(exported: Path) -> Any:
    return open_onnx(exported / "onnx" / "model.onnx", threads=1)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 32, 32), dtype=np.float32)


def test_sixteen_threads_get_identical_results(session: Any) -> None:
    batches = [images(1 + n % 4, n % 4) for n in range(64)]
    expected = [session.run(images(1 + n, n)) for n in range(4)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(session.run, batches))
    for number, answer in enumerate(found):
        assert np.array_equal(answer, expected[number % 4])


def test_one_predictor_serves_sixteen_threads(exported: Path) -> None:
    predictor = open_predictor(exported, threads=1, warm_up=(1, 2))
    expected = predictor.predict(EXAMPLES)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: predictor.predict(EXAMPLES), range(16)))
    assert all(answer == expected for answer in found)


def test_a_directory_opens_as_its_float32_file(exported: Path) -> None:
    eager = zoo.Predictor.from_model(zoo.create_model("convit_nano", pretrained=True))
    found = open_predictor(exported)
    assert found.labels == eager.labels
    assert found.input == eager.input
    assert np.allclose(found.logits(EXAMPLES), eager.logits(EXAMPLES), atol=1e-5)
    assert [p.label for p in found.predict(EXAMPLES, batch_size=3)] == list("0123456789")


def test_a_precision_that_was_not_exported_is_named(exported: Path) -> None:
    with pytest.raises(ConfigError, match="no int8 file; run convattn export"):
        open_predictor(exported, precision="int8")
    with pytest.raises(ConfigError, match="float32, float16, int8; got 'q4'"):
        open_predictor(exported, precision="q4")


def test_of_two_int8_files_a_directory_opens_as_the_dynamic_one(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    names = ("onnx/model_int8.onnx", "onnx/model_quantized.onnx")
    for shift, name in enumerate(names):
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
        constant = numpy_helper.from_array(np.full((1,), float(shift), np.float32), "c")
        node = helper.make_node("Add", ["x", "c"], ["y"])
        graph = helper.make_graph([node], "g", [value], [out], [constant])
        opset = [helper.make_opsetid("", 18)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / name)
    manifest = make_manifest(tmp_path, names, "convit_nano.toy", "1.0.0", 1)
    (tmp_path / "manifest.json").write_text(manifest.to_json())
    session = open_session(tmp_path, precision="int8")
    assert session.run(np.zeros((1, 1), np.float32)).tolist() == [[1.0]]
    assert session.sha256 == manifest.digest(names[1])
    path = tmp_path / names[1]
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(IntegrityError) as caught:
        open_session(tmp_path, precision="int8")
    assert caught.value.code == "hash"


def test_torchscript_has_the_same_interface(exported: Path) -> None:
    session = open_session(exported / "model.pt")
    assert session.provider == "torch-cpu"
    assert session.run(images(2)).shape == (2, 10)
    with pytest.raises(InputError, match="expected float32 images"):
        session.run(np.zeros((2, 1, 32, 32), np.float32))
    with pytest.raises(InputError, match=r"got float32 \(2, 3, 31, 32\)"):
        session.run(np.zeros((2, 3, 31, 32), np.float32))


def test_all_outputs_are_returned_by_name(tmp_path: Path) -> None:
    value = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 3, 4, 4])
        for n in ("pixel_values", "features.a", "logits")
    ]
    nodes = [
        helper.make_node("Relu", ["pixel_values"], ["features.a"]),
        helper.make_node("Neg", ["features.a"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:])
    save(graph, tmp_path / "two.onnx")
    session = open_onnx(tmp_path / "two.onnx")
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4), dtype=np.float32)
    found = session.run_named(x)
    assert list(found) == ["features.a", "logits"]
    assert np.array_equal(session.run(x), -found["features.a"])
    with pytest.raises(ConfigError, match="does not say how to prepare"):
        open_predictor(tmp_path / "two.onnx")


def save(graph: onnx.GraphProto, path: Path, opset: int = 20, ir_version: int = 10) -> Path:
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )
    path.write_bytes(model.SerializeToString())
    return path


def test_warming_up_runs_every_batch_size(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_onnx(exported / "onnx" / "model.onnx")
    seen: list[tuple[int, ...]] = []
    object.__setattr__(session, "run_named", lambda batch: seen.append(batch.shape))
    session.warm_up((1, 4))
    assert seen == [(1, 3, 32, 32), (4, 3, 32, 32)]


@pytest.mark.parametrize(
    ("batch", "why"),
    [
        (np.zeros((1, 1, 32, 32), np.float32), r"got float32 \(1, 1, 32, 32\)"),
        (np.zeros((3, 32, 32), np.float32), r"got float32 \(3, 32, 32\)"),
        (np.zeros((0, 3, 32, 32), np.float32), r"got float32 \(0, 3, 32, 32\)"),
        (np.zeros((1, 32, 32, 3), np.float32), r"got float32 \(1, 32, 32, 3\)"),
        (np.zeros((1, 3, 32, 32), np.uint8), "got uint8: prepare images"),
        (np.zeros((1, 3, 32, 32), np.int64), "got int64"),
        (np.zeros((1, 3, 32, 32), complex), "got complex128"),
        (np.full((2, 3, 32, 32), np.nan, np.float32), "2 of 2 images hold NaN"),
        (np.full((1, 3, 32, 32), np.inf, np.float32), "1 of 1 images hold NaN or infinity"),
        (np.full((1, 3, 32, 32), "a"), "got <U1"),
        ([[0.0]], "as a numpy array; got list"),
        (None, "got NoneType"),
    ],
)
def test_bad_batches_are_typed_errors(session: Any, batch: Any, why: str) -> None:
    with pytest.raises(InputError, match=why):
        session.run(batch)


def test_a_value_beyond_float32_is_not_finite_either(session: Any) -> None:
    with pytest.raises(InputError, match="NaN or infinity"):
        session.run(np.full((1, 3, 32, 32), 1e300))


def test_strided_and_other_floats_give_the_same_answer(session: Any) -> None:
    x = images(4)
    expected = session.run(x)
    assert np.array_equal(session.run(np.asfortranarray(x)), expected)
    assert np.array_equal(session.run(np.repeat(x, 2, axis=0)[::2]), expected)
    assert np.array_equal(session.run(x.astype(np.float64)), expected)


def test_the_four_levels_agree_with_each_other(exported: Path) -> None:
    path = exported / "onnx" / "model.onnx"
    answers = [
        open_onnx(path, level=level).run(images(2))
        for level in ("disabled", "basic", "extended", "all")
    ]
    assert max(np.abs(a - answers[0]).max() for a in answers) < 1e-5


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"provider": "rocm"}, "cpu, cuda, tensorrt, openvino"),
        ({"level": "most"}, "disabled, basic, extended, all"),
        ({"threads": -1}, "threads must be 0"),
        ({"cuda_graph": True}, "CUDA graphs need provider cuda"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        SessionSettings(**settings)


def relu(x: str = "x", y: str = "y", op: str = "Relu", domain: str = "") -> onnx.GraphProto:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 1, 1, 1]) for n in (x, y)]
    node = helper.make_node(op, [x], [y], domain=domain)
    return helper.make_graph([node], "g", value[:1], value[1:])


def test_damaged_files_are_refused_without_paths_of_the_runtime(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = (exported / "onnx" / "model.onnx").read_bytes()
    path = tmp_path / "m.onnx"
    for content in (
        b"",
        b"not onnx",
        data[: len(data) // 2],
        data[:-1],
        b"<html>" * 99,
        PROBE[:-4],
    ):
        path.write_bytes(content)
        with pytest.raises(ExportError, match=r"m\.onnx") as caught:
            open_onnx(path)
        assert "onnxruntime_src" not in str(caught.value)
        assert "site-packages" not in str(caught.value)
        assert len(str(caught.value)) <= 300
        assert caught.value.exit_code == 3
    assert capfd.readouterr() == ("", "")


def test_a_file_without_inputs_or_outputs_is_refused(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["y"], value_float=1.0)
    graph = helper.make_graph(
        [constant], "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])]
    )
    for open_file in (open_onnx, open_predictor):
        with pytest.raises(ModelFileError, match="no inputs or no outputs") as caught:
            open_file(save(graph, tmp_path / "none.onnx"))
        assert caught.value.exit_code == 3


def test_metadata_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = save(relu(), tmp_path / "m.onnx")
    model = onnx.load(path)
    model.metadata_props.add(key="labels", value="QQQQ")
    path.write_bytes(model.SerializeToString().replace(b"QQQQ", b"\xd0\xff\xfe\xd0"))
    for open_file in (open_onnx, open_predictor):
        with pytest.raises(ModelFileError, match="not UTF-8"):
            open_file(path)


def test_a_newer_opset_says_what_is_supported(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"uses opset 99, onnxruntime .* up to \d+") as caught:
        open_onnx(save(relu(), tmp_path / "new.onnx", opset=99))
    assert caught.value.code == "opset"


def test_a_newer_format_says_what_is_supported(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"has IR version 99, onnxruntime .* up to \d+"):
        open_onnx(save(relu(), tmp_path / "new.onnx", ir_version=99))


def test_custom_operators_are_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"does not have: acme\.Secret"):
        open_onnx(save(relu(op="Secret", domain="acme"), tmp_path / "custom.onnx"))
    with pytest.raises(ExportError, match="needs the operator Secret"):
        open_onnx(save(relu(op="Secret"), tmp_path / "unknown.onnx"))


def test_an_operator_without_a_kernel_is_named(tmp_path: Path) -> None:
    graph = relu()
    del graph.node[:]
    graph.node.append(helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE))
    graph.node.append(helper.make_node("Erf", ["wide"], ["found"]))
    graph.node.append(helper.make_node("Cast", ["found"], ["y"], to=TensorProto.FLOAT))
    with pytest.raises(ExportError, match="needs Erf of types that onnxruntime"):
        open_onnx(save(graph, tmp_path / "wide.onnx"), trust_code=True)


def test_external_data_beside_the_model_are_read(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").write_bytes(np.array([2.0], np.float32).tobytes())
    assert open_onnx(path).run(np.full((1, 1, 1, 1), 3.0, np.float32))[0, 0, 0, 0] == 6.0


def external(folder: Path, location: str) -> Path:
    """A model that multiplies by a weight kept in `location`."""
    graph = relu()
    del graph.node[:]
    graph.node.append(helper.make_node("Mul", ["x", "w"], ["y"]))
    tensor = TensorProto(name="w", dims=[1], data_type=1, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    graph.initializer.append(tensor)
    return save(graph, folder / "model.onnx")


@pytest.mark.parametrize(
    "location",
    ["../secret", "/etc/hostname", "a/../../secret", "", ".", "C:\\x", "w\0.bin", "gone"],
)
def test_external_data_elsewhere_are_refused(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"1234")
    with pytest.raises(IntegrityError, match="external data must be a file of its own") as caught:
        open_onnx(external(folder, location))
    assert caught.value.code == "external_data"


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_external_data_behind_a_link_are_refused(link: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"1234")
    link(tmp_path / "secret", folder / "w.bin")
    with pytest.raises(IntegrityError, match="link"):
        open_onnx(external(folder, "w.bin"))


def test_the_model_is_not_its_own_external_data(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="is the model itself"):
        open_onnx(external(tmp_path, "model.onnx"))


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(ZooError, match="not a regular file"):
        open_onnx(tmp_path / "model.onnx")


def test_an_untrusted_file_may_not_loop_or_grow(tmp_path: Path) -> None:
    graph = relu()
    graph.node[0].CopyFrom(helper.make_node("Expand", ["x", "size"], ["y"]))
    graph.initializer.append(numpy_helper.from_array(np.array([1 << 40, 1, 1, 1]), "size"))
    path = save(graph, tmp_path / "bomb.onnx")
    with pytest.raises(ExportError, match="without a static bound: Expand"):
        open_onnx(path, untrusted=True)


def test_a_foreign_file_runs_with_the_preprocessing_of_a_named_model(
    exported: Path, tmp_path: Path
) -> None:
    model = onnx.load(exported / "onnx" / "model.onnx")
    del model.metadata_props[:]
    (tmp_path / "foreign.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ConfigError, match="no 'input' metadata") as caught:
        open_predictor(tmp_path / "foreign.onnx")
    assert caught.value.code == "foreign_file"
    found = open_predictor(tmp_path / "foreign.onnx", like="convit_nano.digits")
    assert [p.label for p in found.predict(EXAMPLES)] == list("0123456789")
    words = [str(tmp_path / "foreign.onnx"), "--data", "digits", "--json"]
    ran = CliRunner().invoke(evaluate_command, [*words, "--like", "convit_nano.digits"])
    own = CliRunner().invoke(evaluate_command, [str(exported / "onnx/model.onnx"), *words[1:]])
    assert json.loads(ran.output)["results"] == json.loads(own.output)["results"]
    found = open_predictor(tmp_path / "foreign.onnx", like=str(exported))
    assert [p.label for p in found.predict(EXAMPLES)] == list("0123456789")
    found = open_predictor(tmp_path / "foreign.onnx", like="timm:test_vit")
    assert (found.input.size, found.input.crop_pct, found.labels) == ((160, 160), 0.95, ())


def test_a_file_outside_its_directory_is_opened(exported: Path, tmp_path: Path) -> None:
    shutil.copy(exported / "onnx" / "model.onnx", tmp_path / "model.onnx")
    assert export.open_predictor(tmp_path / "model.onnx")(EXAMPLES[7]).label == "7"
