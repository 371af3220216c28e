"""The picture of a parity report: every row of it, whatever inputs it names."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import export
import zoo
from export.parity.figure import draw_parity
from export.parity.report import NEIGHBOURS


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    model = zoo.create_model("resnet_nano", num_classes=3).eval()
    out = tmp_path_factory.mktemp("figure") / "out"
    return export.export_model(model, out, ("onnx",)).report.to_dict()


def test_a_report_as_an_export_writes_it_is_drawn(
    report: dict[str, object], tmp_path: Path
) -> None:
    rows = report["rows"]
    assert isinstance(rows, list)
    assert NEIGHBOURS in {row["inputs"] for row in rows}
    draw_parity(report, tmp_path / "parity.png")
    with Image.open(tmp_path / "parity.png") as picture:
        assert min(picture.size) > 100


def test_unknown_inputs_and_missing_errors_are_drawn(
    report: dict[str, object], tmp_path: Path
) -> None:
    rows = report["rows"]
    assert isinstance(rows, list)
    strange = [{**rows[0], "inputs": f"kind {i}", "max_abs_error": None} for i in range(12)]
    nodes = {"errors": [None, 0.0, 1e-7], "budget": 1e-6}
    draw_parity({**report, "rows": [*rows, *strange]}, tmp_path / "parity.png", nodes)
    with Image.open(tmp_path / "parity.png") as picture:
        assert min(picture.size) > 100
