"""Curves from sweep.json, and the build-up's bookkeeping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zoo.analysis.buildup import PlanMeasurement, build_up_study
from zoo.analysis.sweep import read_sweep, sweep_study
from zoo.errors import AnalysisError, ConfigError, NotFoundError
from zoo.evaluation.evaluate import Accuracy


def _accuracy(percent: float) -> dict[str, Any]:
    return Accuracy(round(percent), 100).to_dict()


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    rows = [
        {
            "settings": {"kernel_size": kernel, "gating": gating},
            "fraction": 1.0,
            "seed": seed,
            "run": f"runs/{kernel}-{gating}-{seed}",
            "validation": _accuracy(80 + kernel + seed),
            "test": _accuracy(70 + kernel),
        }
        for kernel in (5, 3, 11)
        for gating in ("learned", "none")
        for seed in (0, 1, 2)
    ]
    failed = {**rows[0], "seed": 9, "error": "the loss is NaN", "validation": None, "test": None}
    content = {"model": "convit_nano", "data": "digits", "rows": [*rows, failed]}
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    return tmp_path


def test_seeds_are_averaged_and_other_settings_are_series(sweep: Path) -> None:
    found = sweep_study(sweep)
    assert found.setting == "kernel_size"
    assert [point.value for point in found.points] == [3, 5, 11] * 2
    first = found.points[0]
    assert (first.others, first.mean_percent, first.low_percent) == ("gating=learned", 84, 83)
    assert (first.high_percent, first.seeds) == (85, 3)
    assert len(found.table) == 18
    assert sweep_study(sweep, "gating", "test").points[0].mean_percent == 75
    assert "convit_nano on digits" in found.definition


def test_without_numbers_every_combination_is_a_place_of_its_own(sweep: Path) -> None:
    content = json.loads((sweep / "sweep.json").read_text())
    for row in content["rows"]:
        row["settings"] = {"gating": "none"} if row["settings"]["gating"] == "none" else {}
    (sweep / "sweep.json").write_text(json.dumps(content))
    found = sweep_study(sweep)
    assert found.setting == "settings"
    assert [point.value for point in found.points] == ["default", "gating=none"]


def test_a_setting_that_does_not_vary_is_refused(sweep: Path) -> None:
    with pytest.raises(ConfigError, match=r"'fraction' does not vary .* kernel_size, gating"):
        sweep_study(sweep, "fraction")


def test_a_missing_test_part_is_named(sweep: Path) -> None:
    content = json.loads((sweep / "sweep.json").read_text())
    for row in content["rows"]:
        row["test"] = None
    (sweep / "sweep.json").write_text(json.dumps(content))
    with pytest.raises(AnalysisError, match="measured no test part"):
        sweep_study(sweep, part="test")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no sweep"), ('{"rows": [{}]}', "is no sweep"), ("[]", "is no sweep")],
)
def test_damaged_sweeps_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(AnalysisError, match=message):
        read_sweep(tmp_path)


def test_a_sweep_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        read_sweep(tmp_path / "nowhere")


def test_the_build_up_names_the_block_that_each_plan_adds() -> None:
    accuracy = Accuracy(9, 10)
    seen = []

    def measure(plan: tuple[str, ...]) -> PlanMeasurement:
        seen.append(plan)
        return PlanMeasurement(100, accuracy, accuracy, 50.0, -1.0, 2.0)

    plans = [("CC", "CCCC"), ("CC", "CCCA"), ("CC", "CACA"), ("CA", "CACA")]
    found = build_up_study(plans, measure)
    assert seen == plans
    assert [step.added for step in found.steps] == [
        "",
        "stage 2, block 4",
        "stage 2, block 2",
        "stage 1, block 2",
    ]
    assert found.rows()[3]["plan"] == "CA CACA"
    with pytest.raises(ConfigError, match="of one layout"):
        build_up_study([("CC",), ("CCC",)], measure)


@pytest.mark.parametrize("part", ["val", "Validation", "", None])
def test_a_part_that_no_sweep_has_is_refused(sweep: Path, part: Any) -> None:
    with pytest.raises(ConfigError, match=r"part must be one of validation, test; got"):
        sweep_study(sweep, part=part)
    assert "on the test part" in sweep_study(sweep, part="test").definition
