"""ONNX files in OpenVINO: the same answers, float32 throughout, and no quiet way out of it."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openvino
import pytest
from onnx import TensorProto, helper

import export
from export.runtime import openvino_session
from export.runtime.doctor import PROBE, probe_providers
from export.runtime.opening import open_onnx, open_predictor, open_session
from export.runtime.providers import SessionSettings
from export.spec import ExportSpec
from zoo.cli import main
from zoo.errors import (
    ConfigError,
    InputError,
    MissingDependencyError,
    ModelFileError,
    ProviderError,
)

from .test_export import one_block

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.png"))


def images(count: int, seed: int = 0, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, side, side), dtype=np.float32)


def test_every_file_of_an_export_verifies_in_openvino(exported: Path) -> None:
    found = export.verify_directory(exported, "openvino").report
    assert found
    ran = {(row.file, row.provider, row.level) for row in found.rows}
    assert ran == {("onnx/model.onnx", "openvino-cpu", "all")}
    # judged as float32 on a processor is: by the budget that eager float32 sets
    assert max(row.limit for row in found.rows) < 1e-4
    proof = found.attestation["onnx/model.onnx"]
    assert proof["openvino"] == openvino.__version__
    assert proof["device"] == openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    assert proof["inference_precision"] == "f32"
    assert proof["elsewhere"] == []
    assert proof["nodes"] == {"openvino-cpu": proof["nodes"]["openvino-cpu"]}
    assert proof["nodes"]["openvino-cpu"] > proof["executed"] > 50
    assert found.attestation["model.pt"] == {"not_run": "openvino runs .onnx files only"}


def test_predictions_are_those_of_onnx_runtime(exported: Path) -> None:
    ours, theirs = open_predictor(exported, "openvino"), open_predictor(exported)
    assert ours.labels == theirs.labels
    assert np.allclose(ours.logits(EXAMPLES), theirs.logits(EXAMPLES), atol=1e-5)
    assert [found.label for found in ours.predict(EXAMPLES)] == list("0123456789")


def test_threads_get_the_answers_of_their_own_batches(exported: Path) -> None:
    run = open_onnx(exported / "onnx" / "model.onnx", "openvino", threads=1).run
    expected = [run(images(1 + n, n)) for n in range(4)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: run(images(1 + n % 4, n % 4)), range(32)))
    for number, answer in enumerate(found):
        assert np.array_equal(answer, expected[number % 4])


def test_an_answer_does_not_change_with_the_next_call(exported: Path) -> None:
    run = open_onnx(exported / "onnx" / "model.onnx", "openvino").run
    first = run(images(2))
    kept = first.copy()
    run(images(2, 1))
    assert np.array_equal(first, kept)


def test_sizes_between_strides_are_refused_as_in_onnx_runtime(tmp_path: Path) -> None:
    spec = ExportSpec(batches=(1,), dynamic_size=True, whole_strides=True)
    export.to_onnx(one_block(), tmp_path / "m.onnx", spec)
    session = open_onnx(tmp_path / "m.onnx", "openvino")
    reference = open_onnx(tmp_path / "m.onnx")
    assert session.shape == reference.shape
    assert session.metadata == reference.metadata
    assert np.allclose(
        session.run(images(1, side=48)), reference.run(images(1, side=48)), atol=1e-5
    )
    with pytest.raises(InputError, match="heights are multiples of"):
        session.run(images(1, side=49))
    with pytest.raises(InputError, match="expected float32 images"):
        session.run(np.zeros((1, 1, 32, 32), np.float32))


def one_node(path: Path, op: str, kind: int = TensorProto.FLOAT, **how: Any) -> Path:
    """A file of one operator, (b, 1, 1, 1) of a type -> float."""
    value = [
        helper.make_tensor_value_info(name, of, ["b", 1, 1, 1])
        for name, of in (("x", kind), ("y", TensorProto.FLOAT))
    ]
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], **how)], "g", value[:1], value[1:]
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def test_images_as_bytes_are_taken(tmp_path: Path) -> None:
    path = one_node(tmp_path / "cast.onnx", "Cast", TensorProto.UINT8, to=TensorProto.FLOAT)
    x = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    assert open_onnx(path, "openvino").run(x).ravel().tolist() == [0.0, 255.0]


def test_an_operator_that_openvino_lacks_is_its_fault_and_named(tmp_path: Path) -> None:
    path = one_node(tmp_path / "m.onnx", "Inverse", domain="com.microsoft")
    open_onnx(path, trust_code=True)  # ONNX Runtime has it
    with pytest.raises(ProviderError, match=r"did not take m\.onnx.*Inverse") as caught:
        open_onnx(path, "openvino", trust_code=True)
    assert caught.value.exit_code == 7
    assert "/src/" not in str(caught.value)


def test_a_damaged_file_is_the_fault_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="needs the operator Rexu"):
        open_onnx(one_node(tmp_path / "m.onnx", "Rexu"), "openvino")


class _Fake:
    """What `_attest` asks of a core, a graph and a compiled graph."""

    def __init__(self, placed: dict[str, str], devices: list[str], precision: str) -> None:
        self.placed, self.devices, self.precision = placed, devices, precision

    def get_ops(self) -> list[Any]:
        names = ("a", "b")
        return [
            SimpleNamespace(get_friendly_name=lambda n=n: n, get_type_name=lambda: "Conv")
            for n in names
        ]

    def query_model(self, graph: Any, device: str) -> dict[str, str]:
        return self.placed

    def get_runtime_model(self) -> Any:
        return self

    def get_property(self, *names: str) -> Any:
        return {
            "EXECUTION_DEVICES": self.devices,
            "INFERENCE_PRECISION_HINT": SimpleNamespace(to_string=lambda: self.precision),
            "FULL_DEVICE_NAME": "a processor",
        }[names[-1]]


BOTH = {"a": "CPU", "b": "CPU"}


@pytest.mark.parametrize(
    ("placed", "devices", "precision", "why"),
    [
        ({"a": "CPU"}, ["CPU"], "f32", "did not place the whole graph on the processor: Conv b"),
        ({"a": "CPU", "b": "GPU"}, ["CPU"], "f32", "Conv b"),
        (BOTH, ["GPU"], "f32", "it runs on GPU"),
        (BOTH, ["CPU"], "bf16", "computes in bf16 although float32 was asked for"),
    ],
)
def test_a_graph_that_left_the_processor_or_float32_is_an_error(
    placed: dict[str, str], devices: list[str], precision: str, why: str
) -> None:
    fake = _Fake(placed, devices, precision)
    with pytest.raises(ProviderError, match=why):
        openvino_session._attest(openvino, fake, fake, fake)
    sound = _Fake(BOTH, ["CPU"], "f32")
    assert openvino_session._attest(openvino, sound, sound, sound)["nodes"] == {"openvino-cpu": 2}


def test_without_the_package_the_extra_is_named(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'convattn-zoo\[openvino\]'"):
        open_session(exported, SessionSettings(provider="openvino"))
    found = probe_providers()["openvino"]
    assert (found["runs"], found["repair"]) == (False, "pip install 'convattn-zoo[openvino]'")


def test_doctor_runs_the_probe_in_openvino(tmp_path: Path) -> None:
    path = tmp_path / "probe.onnx"
    path.write_bytes(PROBE)
    x = np.array([-1.0, 2.0], np.float32).reshape(2, 1, 1, 1)
    assert open_onnx(path, "openvino").run(x).ravel().tolist() == [0.0, 2.0]
    assert probe_providers()["openvino"]["runs"]


def test_torch_formats_are_not_for_openvino(exported: Path) -> None:
    with pytest.raises(ConfigError, match=r"openvino takes the \.onnx file"):
        open_session(exported / "model.pt", SessionSettings(provider="openvino"))


def test_the_measured_file_says_openvino(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["verify", str(exported), "--provider", "openvino", "--out", str(tmp_path)])
    assert done.value.code == 0
    assert (tmp_path / "convit_nano.digits" / "parity-openvino.json").is_file()
    assert "model.pt: not run: openvino runs .onnx files only" in capsys.readouterr().out
