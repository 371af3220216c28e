"""Parity on the CUDA provider: TF32 off and on, float16, IO binding, CUDA graphs, torch on CUDA.

With CONVATTN_WRITE_MEASURED=DIR every report is also written to DIR/NAME/parity-DEVICE.json.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import export
import zoo
from benchmarks.gpu_steps import FAMILIES, random_models
from export.parity.report import ParityReport
from export.runtime.opening import open_onnx
from zoo.factory.create import create_random
from zoo.files.local import write_text
from zoo.files.provenance import provenance

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("cuda")]

NAMES = [name for family in FAMILIES for name in zoo.list_models(family=family)]
CASES = [
    pytest.param(name, marks=[] if name in random_models() else [pytest.mark.slow])
    for name in NAMES
]


@pytest.fixture(scope="module", params=CASES)
def on_disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of an export with a float32 and a float16 file; random weights, seed 0.

    CONVATTN_CUDA_EXPORTS: a folder with such directories, NAME.random, made before (`make gpu`).
    """
    ready = Path(os.environ.get("CONVATTN_CUDA_EXPORTS", "")) / f"{request.param}.random"
    if ready.is_dir():
        return ready
    out = tmp_path_factory.mktemp("cuda") / request.param
    model = create_random(request.param, 0)
    export.export_model(model, out, ["onnx", "torchscript"], precisions=["float16"])
    return out


def _record(report: ParityReport, tf32: bool) -> None:
    folder = os.environ.get("CONVATTN_WRITE_MEASURED")
    if folder:
        proof = report.attestation["onnx/model.onnx"]
        device = f"{proof['device'].replace(' ', '_')}{'-tf32' if tf32 else ''}"
        content = {**json.loads(report.to_json()), **provenance(seed=0)}
        path = Path(folder) / report.name / f"parity-{device}.json"
        write_text(path, json.dumps(content, indent=2) + "\n")


@pytest.mark.parametrize("tf32", [False, True])
def test_every_candidate_equals_the_float64_reference(on_disk: Path, tf32: bool) -> None:
    found = export.verify_directory(on_disk, "cuda", tf32=tf32)
    assert found.report
    _record(found.report, tf32)
    ran = {(row.file, row.provider) for row in found.report.rows}
    assert ("onnx/model.onnx", "CUDAExecutionProvider") in ran
    assert ("onnx/model_fp16.onnx", "CUDAExecutionProvider") in ran
    assert ("eager", "torch-cuda") in ran
    assert all(row.tf32 is tf32 for row in found.report.rows)


@pytest.mark.parametrize("file", ["model.onnx", "model_fp16.onnx"])
def test_no_node_leaves_the_gpu(on_disk: Path, file: str) -> None:
    session = open_onnx(on_disk / "onnx" / file, "cuda", tf32=False)
    assert session.attestation["elsewhere"] == []
    assert session.attestation["providers"][0] == "CUDAExecutionProvider"
    assert session.attestation["device"] != "unknown"


def test_bound_and_captured_runs_answer_as_the_cpu_does(on_disk: Path) -> None:
    path = on_disk / "onnx" / "model.onnx"
    reference = open_onnx(path)
    bound = open_onnx(path, "cuda", tf32=False)
    captured = open_onnx(path, "cuda", tf32=False, cuda_graph=True)
    sides = [side for side in reference.shape[1:] if isinstance(side, int)]
    generator = np.random.default_rng(0)
    for batch in (1, 2, 1, 2):  # the second time from the captured graph
        x = generator.standard_normal((batch, *sides), dtype=np.float32)
        expected = reference.run(x)
        scale = max(1.0, float(np.abs(expected).max()))
        for session in (bound, captured):
            assert np.abs(session.run(x) - expected).max() <= 2e-4 * scale


@pytest.mark.parametrize("name", ["convit_nano", "conv_attention_vit_nano"])
def test_trained_models_verify_on_cuda(name: str, tmp_path: Path) -> None:
    export.export_model(zoo.create_model(name, pretrained=True), tmp_path)
    for tf32 in (False, True):
        found = export.verify_directory(tmp_path, "cuda", tf32=tf32)
        assert found.report
        assert found.report.attestation["onnx/model.onnx"]["tf32"] is tf32
