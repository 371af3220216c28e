"""Parity on the CUDA provider, TF32 off and on, for graphs with GPSA and with ConvAttention2d."""

from __future__ import annotations

from pathlib import Path

import pytest

import export
import zoo
from export.onnx_export import reference_for
from export.parity import check_parity
from export.runtime import open_onnx
from export.spec import ExportSpec
from zoo.factory import create_random

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("cuda")]

NAMES = [
    *zoo.list_models(family="convit"),
    *zoo.list_models(family="conv_attention_vit"),
]
SLOW = ("large", "huge", "base", "plus", "small")


def _cases() -> list[object]:
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name.endswith(SLOW) else [])
        for name in NAMES
    ]


@pytest.mark.parametrize("name", _cases())
def test_cuda_equals_the_float64_reference(name: str, tmp_path: Path) -> None:
    spec = ExportSpec()
    model = create_random(name, 0)
    export.to_onnx(model, tmp_path / "model.onnx", spec)
    reference = reference_for(model, model.pretrained_cfg, spec)
    for tf32 in (False, True):
        session = open_onnx(tmp_path / "model.onnx", "cuda", tf32=tf32)
        rows = check_parity(session.run, reference, name, session.provider, spec, tf32)
        failed = [row for row in rows if not row.passed]
        assert not failed, f"tf32={tf32}: {failed[0]}"
        assert session.attestation["elsewhere"] == [], "nodes off the GPU"


@pytest.mark.parametrize("name", ["convit_nano", "conv_attention_vit_nano"])
def test_verify_runs_on_cuda(name: str, tmp_path: Path) -> None:
    export.export_model(zoo.create_model(name, pretrained=True), tmp_path)
    for tf32 in (False, True):
        found = export.verify_directory(tmp_path, "cuda", tf32=tf32)
        assert found.report
        assert found.report.attestation["onnx/model.onnx"]["tf32"] is tf32
