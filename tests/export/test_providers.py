"""The provider that really ran: fakes stand for onnxruntime where no GPU is here."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from export.parity.candidates import _require_placement
from export.runtime import doctor as diagnosis
from export.runtime import onnx_session, providers
from export.runtime.attestation import attest, device, gpu_facts
from export.runtime.doctor import PROBE, probe_providers, repair_line
from export.runtime.model_files import ModelFile
from export.runtime.onnx_session import CudaGraph, bound_runner
from export.runtime.providers import SessionSettings, create_session
from export.runtime.session import Session
from export.runtime.wire import read_model_facts
from zoo.errors import ExportError, InputError, ProviderError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class FakeValue:
    """An OrtValue that remembers where it lies."""

    made = 0

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        FakeValue.made += 1

    @classmethod
    def ortvalue_from_numpy(cls, array: np.ndarray, kind: str, number: int) -> FakeValue:
        assert (kind, number) == ("cuda", 0)
        return cls(array.copy())

    def update_inplace(self, array: np.ndarray) -> None:
        assert array.shape == self.array.shape
        self.array[...] = array


class FakeBinding:
    def __init__(self) -> None:
        self.input: FakeValue | None = None
        self.outputs: dict[str, FakeValue | None] = {}

    def bind_ortvalue_input(self, name: str, value: FakeValue) -> None:
        assert name == "x"
        self.input = value

    def bind_output(self, name: str, kind: str) -> None:
        assert kind == "cuda"
        self.outputs[name] = None

    def bind_ortvalue_output(self, name: str, value: FakeValue) -> None:
        self.outputs[name] = value

    def get_outputs(self) -> list[FakeValue | None]:
        return list(self.outputs.values())

    def copy_outputs_to_cpu(self) -> list[np.ndarray]:
        return [value.array for value in self.outputs.values() if value is not None]


class FakeSession:
    """Doubles its input; keeps what a CUDA graph would keep: the addresses of the first run."""

    def __init__(self) -> None:
        self.graphs: dict[str, tuple[Any, Any]] = {}
        self.replays = 0
        self.inside = 0

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="x", shape=["b", 1, 2, 2], type="tensor(float)")]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="logits")]

    def io_binding(self) -> FakeBinding:
        return FakeBinding()

    def run_with_iobinding(self, binding: FakeBinding, options: Any = None) -> None:
        number = options.entries["gpu_graph_id"] if options else "-1"
        value = binding.input
        assert value is not None
        if number != "-1":
            self.inside += 1
            time.sleep(0.001)
            assert self.inside == 1, "two replays at once"
            addresses = (value, binding.outputs["logits"])
            assert self.graphs.setdefault(number, addresses) == addresses
            self.replays += 1
            self.inside -= 1
        result = value.array.reshape(len(value.array), -1) * 2
        if binding.outputs["logits"] is None:
            binding.outputs["logits"] = FakeValue(result)
        else:
            binding.outputs["logits"].array[...] = result


class FakeOptions:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_run_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


@pytest.fixture
def fake_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(OrtValue=FakeValue, RunOptions=FakeOptions)
    monkeypatch.setattr(onnx_session, "import_runtime", lambda: fake)


def batch(count: int, value: float = 1.0) -> np.ndarray:
    return np.full((count, 1, 2, 2), value, np.float32)


@pytest.mark.usefixtures("fake_runtime")
def test_bound_runs_copy_once_and_return_by_name() -> None:
    run = bound_runner(FakeSession())
    assert np.array_equal(run(batch(2))["logits"], np.full((2, 4), 2.0))
    with pytest.raises(InputError, match="expected float32 images"):
        run(np.zeros((1, 3, 2, 2), np.float32))


@pytest.mark.usefixtures("fake_runtime")
def test_a_cuda_graph_is_captured_once_per_shape_and_replayed_at_its_addresses() -> None:
    session = FakeSession()
    run = CudaGraph(session)
    for value in (1.0, 5.0):
        for count in (1, 3):
            assert np.array_equal(
                run(batch(count, value))["logits"], np.full((count, 4), 2 * value)
            )
    assert sorted(session.graphs) == ["1", "2"]
    assert session.replays == 4


@pytest.mark.usefixtures("fake_runtime")
def test_answers_of_a_cuda_graph_do_not_change_with_the_next_call() -> None:
    run = CudaGraph(FakeSession())
    first = run(batch(1, 1.0))["logits"]
    run(batch(1, 9.0))
    assert np.array_equal(first, np.full((1, 4), 2.0))


@pytest.mark.usefixtures("fake_runtime")
def test_threads_take_turns_at_a_cuda_graph() -> None:
    run, wrong = CudaGraph(FakeSession()), []

    def work(value: float) -> None:
        for _ in range(5):
            if not np.array_equal(run(batch(2, value))["logits"], np.full((2, 4), 2 * value)):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(float(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_options_of_the_provider() -> None:
    assert SessionSettings(provider="cuda", tf32=False).provider_options() == {"use_tf32": "0"}
    graph = SessionSettings(provider="cuda", cuda_graph=True).provider_options()
    assert graph == {"use_tf32": "1", "enable_cuda_graph": "1"}
    assert SessionSettings().provider_options() == {}


def assigned(**nodes: list[tuple[str, str]]) -> Any:
    """A session whose record has these (operator, name) per provider."""
    parts = [
        SimpleNamespace(
            ep_name=f"{name}ExecutionProvider",
            get_nodes=lambda entries=entries: [
                SimpleNamespace(op_type=op, name=n) for op, n in entries
            ],
        )
        for name, entries in nodes.items()
    ]
    return SimpleNamespace(
        get_provider_graph_assignment_info=lambda: parts,
        get_providers=lambda: [CUDA, CPU],
    )


def test_the_record_of_every_node_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.runtime.attestation.gpu_facts", lambda: {"device": "NVIDIA Test"})
    session = assigned(CUDA=[("Conv", "a"), ("Relu", "b")], CPU=[("Concat", "c")])
    proof = attest(session, SessionSettings(provider="cuda", tf32=False))
    assert proof["nodes"] == {CUDA: 2, CPU: 1}
    assert proof["elsewhere"] == [f"Concat c on {CPU}"]
    assert proof["tf32"] is False
    assert proof["device"] == "NVIDIA Test"
    assert proof["providers"] == [CUDA, CPU]


def test_a_provider_that_took_no_node_is_an_error() -> None:
    with pytest.raises(ProviderError, match="took none of its nodes"):
        attest(assigned(CPU=[("Conv", "a")]), SessionSettings(provider="cuda"))
    with pytest.raises(ProviderError, match="does not record where nodes run"):
        attest(SimpleNamespace(), SessionSettings(provider="cuda"))


@pytest.mark.parametrize(
    ("file", "elsewhere", "multiple", "fine"),
    [
        ("onnx/model.onnx", [], "0", True),
        ("onnx/model.onnx", ["Concat c on CPU"], "0", False),
        ("onnx/model.onnx", ["Concat c on CPU"], "", False),
        ("onnx/model.onnx", ["Concat c on CPU"], "16", True),
        ("onnx/model.onnx", ["Conv c on CPU"], "16", False),
        ("onnx/model.onnx", ["MaxPool p on CPU"], "0", True),
        ("onnx/model_fp16.onnx", ["Softmax s on CPU"], "0", False),
        ("onnx/model_quantized.onnx", ["ConvInteger c on CPU"], "0", True),
    ],
)
def test_float_graphs_of_fixed_size_may_not_leave_the_gpu(
    file: str, elsewhere: list[str], multiple: str, fine: bool
) -> None:
    session = Session(dict, CUDA, {"size_multiple": multiple}, {"elsewhere": elsewhere})
    if fine:
        _require_placement(file, session)
    else:
        with pytest.raises(ProviderError, match=r"nodes of .* did not run on CUDA"):
            _require_placement(file, session)


def test_the_device_is_read_from_its_own_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(command: list[str], **_: Any) -> Any:
        assert command[0] == "nvidia-smi"
        return SimpleNamespace(stdout="NVIDIA X, 580.1, 9.0\nNVIDIA Y, 580.1, 9.0\n")

    monkeypatch.setattr(subprocess, "run", answer)
    expected = {"device": "NVIDIA X", "driver": "580.1", "compute_capability": "9.0"}
    assert device() == expected
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="broken"))
    assert set(device().values()) == {"unknown"}
    assert {"cuda_build", "cuda_runtime", "cudnn"} <= set(gpu_facts())


def test_a_session_that_quietly_runs_on_the_cpu_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    real = onnxruntime.InferenceSession

    def quiet(data: bytes, options: Any, providers: Any) -> Any:
        print("EP Error ... Falling back")
        return real(data, options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "InferenceSession", quiet)
    model = ModelFile("m.onnx", PROBE, read_model_facts(PROBE), {})
    with pytest.raises(
        ProviderError, match=f"{CUDA} did not run m.onnx: the session runs on {CPU}"
    ):
        create_session(model, SessionSettings(provider="cuda"))
    assert capfd.readouterr().out == ""


def test_a_broken_model_is_not_blamed_on_the_provider() -> None:
    data = PROBE.replace(b"Relu", b"Rexu")
    model = ModelFile("m.onnx", data, read_model_facts(data), {})
    with pytest.raises(ExportError, match="needs the operator Rexu"):
        create_session(model, SessionSettings(provider="cuda"))


@pytest.mark.parametrize(
    ("build", "missing", "line"),
    [
        ("13.0", ["libcurand.so.10"], "pip install nvidia-curand"),
        ("13.0", ["libcudnn.so.9", "libcublasLt.so.13", "libcublas.so.13"],
         "pip install nvidia-cublas nvidia-cudnn-cu13"),
        ("12.8", ["libcurand.so.10", "libcudnn.so.9"],
         "pip install nvidia-cudnn-cu12 nvidia-curand-cu12"),
        ("13.0", ["libodd.so.1"], "pip install 'convattn-zoo[cuda]'"),
        ("13.0", [], ""),
    ],
)  # fmt: skip
def test_the_repair_names_the_packages(
    build: str, missing: list[str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "cuda_build", lambda: build)
    assert repair_line(missing) == line


def _refuse(*_: Any) -> Any:
    raise ProviderError("no")


@pytest.mark.parametrize(
    ("build", "name", "missing", "note", "repair"),
    [
        (
            "none",
            "unknown",
            [],
            "build without CUDA",
            "pip uninstall -y onnxruntime && pip install",
        ),
        ("13.0", "unknown", [], "no NVIDIA GPU", ""),
        ("13.0", "NVIDIA X", ["libcurand.so.10"], "libcurand.so.10 not found", "nvidia-curand"),
        ("13.0", "NVIDIA X", [], "support matrix", ""),
    ],
)
def test_doctor_names_the_first_thing_to_repair(
    build: str, name: str, missing: list[str], note: str, repair: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(diagnosis, "open_onnx", _refuse)
    monkeypatch.setattr(diagnosis, "cuda_build", lambda: build)
    monkeypatch.setattr(diagnosis, "device", lambda: {"device": name})
    monkeypatch.setattr(diagnosis, "preload_cuda", lambda: missing)
    found = probe_providers()["cuda"]
    assert not found["runs"]
    assert note in found["note"]
    assert repair in found["repair"]
    assert bool(repair) == bool(found["repair"])


def test_libraries_are_loaded_before_a_gpu_session(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(providers, "preload_cuda", lambda: calls.append("preload") or [])
    model = ModelFile("m.onnx", PROBE, read_model_facts(PROBE), {})
    with pytest.raises(ProviderError):
        create_session(model, SessionSettings(provider="tensorrt"))
    assert calls == ["preload"]
    create_session(model, SessionSettings())
    assert calls == ["preload"]


def test_the_probe_is_the_model_it_says(tmp_path: Path) -> None:
    import onnx

    model = onnx.ModelProto.FromString(PROBE)
    onnx.checker.check_model(model)
    assert [n.op_type for n in model.graph.node] == ["Relu"]
    assert probe_providers()["cpu"]["runs"]
