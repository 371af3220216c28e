"""The error budget: metrics against closed forms, limits by CONTRACT, reports that fail closed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import export
from export.parity.compare import check_named, check_parity, error_limit
from export.parity.images import _images
from export.parity.inputs import TestInputs
from export.parity.reference import Reference, compute_references, reference_for
from export.parity.report import ParityReport, ParityRow, read_report, require_parity
from export.spec import ExportSpec
from zoo.errors import ConfigError, ExportError, NotFoundError, ParityError
from zoo.factory.create import create_random

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SPEC = ExportSpec(batches=(1,))


def one_image(expected: list[float], eager: float = 1.0) -> Reference:
    inputs = TestInputs(np.zeros((1, 1, 2, 3), np.float32), ("noise",))
    return Reference(inputs, np.array([expected]), np.array([eager]))


def row_of(actual: list[float], expected: list[float], **settings: Any) -> ParityRow:
    reference = one_image(expected, settings.pop("eager", 1.0))
    provider = settings.pop("provider", CPU)
    answer = np.array([actual], np.float64)
    return check_parity(lambda batch: answer, reference, "f", provider, SPEC, **settings)[0]


def test_graphs_that_take_images_see_two_real_ones_and_noise() -> None:
    small, large = _images((9, 14)), _images((18, 28))
    assert (small.shape, large.shape) == ((3, 9, 14, 3), (3, 18, 28, 3))
    assert small.dtype == np.uint8
    by_size = (large[:2].mean((1, 2, 3)), small[:2].mean((1, 2, 3)))
    np.testing.assert_allclose(*by_size, atol=3)  # the same images, enlarged
    assert abs(small[2].mean() - 127.5) < 10


def test_errors_and_angles_are_those_of_the_definition() -> None:
    row = row_of([3.0, 4.5], [3.0, 4.0], eager=0.25)
    assert row.size == (2, 3)
    assert row.max_abs_error == 0.5
    assert row.mean_abs_error == 0.25
    assert row.ratio == 2.0
    assert row.relative_l2 == pytest.approx(0.5 / 5.0)
    assert row.cosine == pytest.approx((9 + 18) / (5 * math.hypot(3, 4.5)))


def test_figures_are_of_the_worst_image() -> None:
    """Two images, of which the first is answered perfectly."""
    inputs = TestInputs(np.zeros((2, 1, 2, 3), np.float32), ("noise", "noise"))
    expected = np.array([[3.0, 4.0], [3.0, 4.0]])
    reference = Reference(inputs, expected, np.array([1.0, 1.0]))
    actual = np.array([[3.0, 4.0], [4.0, 3.0]])
    row = check_parity(lambda batch: actual, reference, "f", CPU, ExportSpec(batches=(2,)))[0]
    assert row.max_abs_error == 1.0
    assert row.mean_abs_error == 0.5  # this one is over all
    assert row.relative_l2 == pytest.approx(math.sqrt(2) / 5)
    assert row.cosine == pytest.approx(24 / 25)
    p = 1 / (1 + math.e)  # of the first class; the logits differ by one
    assert row.kl == pytest.approx(p * -1 + (1 - p) * 1)


def test_the_divergence_is_the_sum_of_p_log_p_over_q() -> None:
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.5, 0.25])
    row = row_of(list(np.log(q) + 7), list(np.log(p) - 3))
    assert row.kl == pytest.approx(float((p * np.log(p / q)).sum()))
    assert row_of([1.0, 2.0], [1.0, 2.0]).kl == 0.0


def test_top5_counts_common_classes_in_any_order() -> None:
    expected = [9.0, 8.0, 7.0, 6.0, 5.0, 0.0, 1.0]
    assert row_of([8.0, 9.0, 7.0, 6.0, 5.0, 0.0, 1.0], expected).top5_agreement == 1.0
    row = row_of([0.0, 9.0, 7.0, 6.0, 5.0, 3.0, 1.0], expected)
    assert row.top5_agreement == pytest.approx(4 / 5)
    assert row.top1_agreement == 0.0


def test_a_changed_answer_fails_where_the_margin_exceeds_the_error() -> None:
    loose = replace(SPEC, absolute=1.0, eager_ratio=10.0)
    inputs = TestInputs(np.zeros((1, 1, 2, 2), np.float32), ("noise",))
    reference = Reference(inputs, np.array([[1.0, 0.3, 0.0]]), np.array([1.0]))
    flipped = np.array([[0.6, 0.7, 0.0]])  # error 0.4 each, margin 0.7
    row = check_parity(lambda batch: flipped, reference, "f", CPU, loose)[0]
    assert row.clear_top1_agreement == 0.0
    assert row.max_abs_error <= row.limit
    assert not row.passed
    closer = Reference(inputs, np.array([[1.0, 0.9, 0.0]]), np.array([1.0]))
    assert check_parity(lambda batch: flipped, closer, "f", CPU, loose)[0].passed  # margin 0.1


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"provider": CPU}, 4e-7 + 1e-6),
        ({"provider": CUDA}, 1e-4),
        ({"provider": "torch-cuda"}, 1e-4),
        ({"provider": CUDA, "tf32": True}, 5e-3),
        ({"provider": CPU, "precision": "float16"}, 1e-2),
        ({"provider": CUDA, "precision": "float16"}, 1e-2),
        ({"provider": CPU, "precision": "int8"}, math.inf),
    ],
)
def test_every_precision_and_provider_has_its_own_limit(
    settings: dict[str, Any], limit: float
) -> None:
    row = row_of([1.0, 0.0], [1.0, 0.0], eager=1e-7, **settings)
    assert row.limit == pytest.approx(limit)
    assert row.passed
    beyond = row_of([1.0 + 2 * min(limit, 1.0), 0.0], [1.0, 0.0], eager=1e-7, **settings)
    assert not beyond.passed


def test_int8_that_is_no_better_than_zero_is_broken() -> None:
    assert row_of([1.4, 0.0], [1.0, 0.0], precision="int8").passed
    assert not row_of([0.0, 0.0], [1.0, 0.0], precision="int8").passed
    assert not row_of([1.5, 0.0], [1.0, 0.0], precision="int8").passed
    assert not row_of([-1.0, 0.0], [1.0, 0.0], precision="int8").passed


def test_int8_that_answers_every_image_alike_is_broken() -> None:
    """Also where that is near the reference: logits of random weights hardly vary."""
    inputs = TestInputs(np.zeros((3, 1, 2, 2), np.float32), ("noise", "real", "extreme"))
    expected = np.array([[5.0, 1.0], [5.1, 0.9], [4.9, 1.1]])
    reference, spec = Reference(inputs, expected, np.ones(3)), ExportSpec(batches=(3,))
    for answer, good in ((expected.mean(0) + 0 * expected, False), (expected * 1.01, True)):
        rows = check_parity(lambda _, a=answer: a, reference, "f", CPU, spec, precision="int8")
        assert [row.passed for row in rows if row.inputs != "neighbours"] == [good] * 3


@pytest.mark.parametrize(
    ("given", "known", "limit"),
    [
        ("cuda", CUDA, 1e-4),
        ("cpu", CPU, 1.4e-6),
        ("tensorrt", "TensorrtExecutionProvider", 1e-4),
        ("openvino", "openvino-cpu", 1.4e-6),
        ("torch-cuda", "torch-cuda", 1e-4),
    ],
)
def test_a_provider_has_its_limit_by_either_name(given: str, known: str, limit: float) -> None:
    row = row_of([1.0, 0.0], [1.0, 0.0], eager=1e-7, provider=given)
    assert (row.provider, row.limit) == (known, pytest.approx(limit))


@pytest.mark.parametrize("name", ["CUDAExecutionProvidr", "gpu", ""])
def test_an_unknown_provider_is_refused_instead_of_judged_like_the_cpu(name: str) -> None:
    with pytest.raises(ConfigError, match="provider must be one of cpu, cuda, tensorrt, openvino"):
        row_of([1.0, 0.0], [1.0, 0.0], provider=name)
    with pytest.raises(ConfigError, match="provider must be one of"):
        error_limit(1e-7, 1.0, name, False, SPEC)


@pytest.mark.parametrize("answer", [[1.0], [1.0, 2.0, 3.0]])
def test_an_answer_of_another_width_is_no_answer(answer: list[float]) -> None:
    says = rf"f answers with {len(answer)} values for an image; the reference has 2 \(logits\)"
    with pytest.raises(ExportError, match=says):
        row_of(answer, [1.0, 2.0])


def test_nothing_compared_is_nothing_passed() -> None:
    none = TestInputs(np.zeros((0, 1, 2, 2), np.float32), ())
    reference = Reference(none, np.zeros((0, 2)), np.zeros(0))
    with pytest.raises(ConfigError, match="nothing would be compared"):
        check_parity(lambda batch: batch, reference, "f", CPU, SPEC)
    with pytest.raises(ConfigError, match="no output that could be compared"):
        check_named(lambda batch: {}, {}, "f", CPU, SPEC)
    report = ParityReport("n", "", "", (), {"model.pt": {"not_run": "it needs torch"}})
    for allowed in (False, True):
        with pytest.raises(ParityError, match=r"nothing was compared.*model\.pt: it needs torch"):
            require_parity(report, allow_drift=allowed)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_precision_lets_nan_or_infinity_pass(precision: str, value: float) -> None:
    row = row_of([value, 0.0], [1.0, 0.0], precision=precision)
    assert not row.passed
    assert math.isnan(row.kl) or row.kl == math.inf


def test_unknown_precisions_are_named() -> None:
    with pytest.raises(ConfigError, match="float32, float16, int8; got 'fp8'"):
        row_of([1.0], [1.0], precision="fp8")


def test_the_scale_of_the_logits_widens_the_budget() -> None:
    assert error_limit(1e-3, 10.0, CPU, False, ExportSpec()) == pytest.approx(1e-4)


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    rows = (row_of([1.0, 2.0], [1.0, 2.0]), row_of([math.nan, 2.0], [1.0, 2.0], precision="int8"))
    report = ParityReport("n", "1.0.0", "ab", rows, {"f": {"nodes": {}}}, {"numpy": "2"}, True)
    (tmp_path / "parity.json").write_text(report.to_json())
    again = read_report(tmp_path / "parity.json")
    assert again.to_json() == report.to_json()
    assert again.drift_allowed
    assert not again
    assert again.rows[0] == rows[0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"format_version": 1, "rows": []}', "format 1, expected 2; write it again"),
        ('{"format_version": 2}', "no parity report"),
        ("[]", "no parity report"),
        ("{", "no parity report"),
    ],
)
def test_other_formats_of_report_are_refused(content: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "parity.json").write_text(content)
    with pytest.raises(ConfigError, match=why):
        read_report(tmp_path / "parity.json")


def test_the_summary_has_the_worst_of_all_levels_and_sizes() -> None:
    good, bad = row_of([1.0, 0.0], [1.0, 0.0]), row_of([1.5, 0.0], [1.0, 0.0])
    rows = (replace(good, level="all"), replace(bad, level="basic", size=(5, 7)))
    report = ParityReport("n", "", "", rows)
    (summary,) = report.summary()
    assert summary["levels"] == ["all", "basic"]
    assert summary["sizes"] == [[2, 3], [5, 7]]
    assert summary["max_abs_error"] == 0.5
    assert not summary["passed"]
    assert json.loads(report.to_json())["passed"] is False
    assert repr(report) == f"<ParityReport of n: fails, 2 rows of {rows[0].file}>"


def test_references_exist_at_any_size() -> None:
    model = create_random("convit_nano", 0)
    spec = ExportSpec(batches=(2,))
    found = reference_for(model, model.pretrained_cfg, spec, (24, 40))
    assert found.size == (24, 40)
    with torch.no_grad():
        exact = model.double().eval()(torch.from_numpy(found.inputs.batch).double()).numpy()
    assert np.abs(found.logits - exact).max() < 1e-12


class _Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean((2, 3)) * self.weight, x * 2


def test_every_named_output_has_its_own_rows() -> None:
    inputs = TestInputs(np.ones((3, 2, 4, 4), np.float32), ("noise",) * 3)
    found = compute_references(_Two(), inputs, (1, 2), ("logits", "features.x"))

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": batch.mean((2, 3)), "features.x": batch * 2 + 1}

    rows = check_named(run, found, "f", CPU, SPEC)
    assert {row.output: row.passed for row in rows} == {"logits": True, "features.x": False}
    features = next(row for row in rows if row.output == "features.x")
    assert math.isnan(features.top1_agreement)
    with pytest.raises(ConfigError, match=r"no output 'features\.x'; it has logits"):
        check_named(lambda batch: {"logits": batch.mean((2, 3))}, found, "f", CPU, SPEC)
    with pytest.raises(ExportError, match="expected 1 outputs"):
        compute_references(_Two(), inputs, (1,), ("logits",))


def test_an_export_reports_every_level_of_optimisation(exported: Path) -> None:
    found = export.verify_directory(exported)
    assert found.report
    levels = {row.level for row in found.report.rows if row.file == "onnx/model.onnx"}
    assert levels == {"disabled", "basic", "extended", "all"}
    eager = [row for row in found.report.rows if row.file == "eager"]
    assert eager
    assert max(row.ratio for row in eager) == 1.0  # its own yardstick


def test_verification_at_one_level_runs_only_that(exported: Path) -> None:
    found = export.verify_directory(exported, levels=("basic",))
    assert found.report
    assert {row.level for row in found.report.rows} == {"", "basic"}


def test_one_file_of_an_export_verifies_alone(exported: Path) -> None:
    found = export.verify_directory(exported / "onnx" / "model.onnx", levels=("all",))
    assert found.report
    assert {row.file for row in found.report.rows} == {"eager", "onnx/model.onnx"}
    with pytest.raises(NotFoundError, match="no such file"):
        export.verify_directory(exported / "onnx" / "other.onnx")
