"""What `make gpu` would do, without a GPU: its plan, and its steps on a processor."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import torch

import zoo
from benchmarks import gpu, gpu_steps
from benchmarks.gpu import STEPS, Context, Step, plan, run_step
from benchmarks.gpu_attention import cases, compare_sides, gpsa_case
from zoo.errors import ProviderError

ROOT = Path(__file__).resolve().parents[2]
HERE = {"torch": "", "onnxruntime": "", "tensorrt": ""}
no_flex_warning = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def context(folder: Path, seconds: float = 1000) -> Context:
    return Context("cpu", folder, time.monotonic() + seconds, lambda _: None)


def test_the_plan_takes_less_than_eight_minutes_and_writes_at_most_eight_files() -> None:
    longest = max(step.seconds for step in STEPS)
    assert sum(step.seconds for step in STEPS) + gpu.GRACE_S <= gpu.LIMIT_S == 480
    assert longest <= 120
    files = [step.name for step in STEPS if step.writes]
    assert len(set(files)) == len(files) <= 8
    assert all(callable(getattr(gpu_steps, step.measure)) for step in STEPS)


def test_every_bundled_model_and_every_random_one_is_in_it() -> None:
    measured = {path.parent.name for path in (ROOT / "model_cards/measured").glob("*/parity.json")}
    assert measured <= set(gpu_steps.models())
    for name in gpu_steps.random_models():
        assert zoo.get_record(name)


def test_beside_an_onnxruntime_without_cuda_the_torch_half_runs() -> None:
    missing = {**HERE, "onnxruntime": "a build without CUDA", "tensorrt": "no libraries"}
    run = [step.name for step, why in plan(missing) if not why]
    assert run == ["parity-torch", "attention", "training"]
    assert {why for _, why in plan(missing)} == {"", "a build without CUDA", "no libraries"}
    assert [step.name for step, why in plan(HERE) if not why] == [step.name for step in STEPS]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_nothing_is_written_and_the_status_is_seven(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main(["--out", str(tmp_path)]) == 7
    assert "sees no CUDA device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert gpu.main(["--plan"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(STEPS)
    with pytest.raises(ProviderError):
        gpu.measure(tmp_path, dict.fromkeys(HERE, "no"))


def test_a_step_that_fails_is_a_result_and_the_next_ones_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Context) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(gpu_steps, "attention", broken)
    monkeypatch.setattr(gpu_steps, "training", lambda _: {"passed": True})
    monkeypatch.setattr(gpu, "device_name", lambda: "NVIDIA_X")
    steps = (Step("attention", "torch", 5, "attention"), Step("training", "torch", 5, "training"))
    monkeypatch.setattr(gpu, "STEPS", steps)
    assert gpu.measure(tmp_path, HERE) is False
    found = json.loads((tmp_path / "attention-NVIDIA_X.json").read_text())
    assert found["error"] == "RuntimeError: CUDA out of memory"
    assert found["command"] == "python -m benchmarks.gpu"
    assert json.loads((tmp_path / "training-NVIDIA_X.json").read_text())["passed"] is True


def test_what_the_time_did_not_suffice_for_is_listed(tmp_path: Path) -> None:
    late = gpu_steps.torch_parity(context(tmp_path, -1), ["convit_nano.digits"])
    assert late["no_time_for"] == ["convit_nano.digits"]
    assert late["passed"] is False


@no_flex_warning
def test_every_form_of_attention_computes_the_same() -> None:
    for case in cases("cpu"):
        found = compare_sides(case, "cpu", rounds=3)["sides"]
        compared = {side["side"]: side["difference"] for side in found}
        assert all(side["agrees"] for side in found), compared
        assert {name for name, error in compared.items() if error is not None} == set(case.same)
        assert max(error or 0.0 for error in compared.values()) < 2e-6


def test_a_form_that_computes_something_else_or_fails_does_not_agree() -> None:
    case = gpsa_case(32, 1, "cpu")
    case.sides["timm"] = lambda x: x

    def fails(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such kernel")

    case.sides["flex"] = fails
    found = {side["side"]: side for side in compare_sides(case, "cpu", rounds=3)["sides"]}
    assert found["timm"]["agrees"] is False
    assert found["flex"] == {"side": "flex", "error": "no such kernel", "agrees": False}


def test_torch_and_files_are_judged_and_training_learns(exported: Path, tmp_path: Path) -> None:
    eager = gpu_steps.torch_parity(context(tmp_path), ["convit_nano.digits"])
    assert [row["file"] for row in eager["models"][0]["summary"]] == ["eager"]
    files = gpu_steps.onnx_parity(context(exported.parent), [exported.name])
    assert files["passed"]
    assert set(files["models"][0]["attestation"]) == {"onnx/model.onnx", "onnx/model.onnx, TF32"}
    trained = run_step(Step("training", "torch", 60, "training"), "cpu", tmp_path)
    assert trained["passed"], trained
    assert [row["precision"] for row in trained["rows"]] == ["no", "bf16"]


def test_make_and_the_workflow_run_it() -> None:
    makefile = (ROOT / "Makefile").read_text()
    line = re.search(r"^gpu: .*\n\t(.*)$", makefile, re.M)
    assert line
    assert line[1].startswith(f"timeout {gpu.LIMIT_S} ")
    assert "-m benchmarks.gpu" in line[1]
    assert "run: make gpu" in (ROOT / ".github/workflows/gpu.yml").read_text()
