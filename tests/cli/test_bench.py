"""convattn bench: structure of its answers and its errors. Nothing here judges a time."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks import attention, documents, plots, start, subjects, tables
from benchmarks.limits import LIMITS, explained
from benchmarks.targets import TARGETS, Target, target
from export.speed.timing import Timing
from zoo.cli import main
from zoo.errors import ConfigError, ResourceError


def run(*args: str) -> int:
    """Run the command in this process and return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *args])
    return int(stopped.value.code or 0)


def test_bench_model_prints_a_table_and_writes_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--rounds", "3", "--no-compile", "--size", "32x48", "--out", str(tmp_path))
    assert run("model", "resnet_nano", *arguments) == 0
    out = capsys.readouterr().out
    assert "1 x 3 x 32 x 48 on cpu, 1 thread(s)" in out
    for word in ("eager", "TorchScript", "ONNX Runtime", "p99", "torch.compile: skipped"):
        assert word in out
    content = json.loads((tmp_path / "resnet_nano.random" / "speed.json").read_text())
    assert content["shape"] == [1, 3, 32, 48]
    assert {"command", "versions", "machine", "seed", "parent_commit"} <= content.keys()


def test_bench_model_keeps_stdout_clean_for_json(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(exported / "onnx" / "model.onnx")
    capsys.readouterr()
    assert run("model", file, "--rounds", "3", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert [c["by"] for c in content["models"][0]["candidates"]] == ["model.onnx"]


def test_bench_load_prints_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("load", "convit_nano", "--rounds", "3") == 0
    out = capsys.readouterr().out
    assert "SHA-256 pass" in out
    assert "timm.create_model: skipped" in out


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        (("model", "convit_nano", "--rounds", "2"), 2, "--rounds"),
        (("model", "convit_nano", "--size", "12by4"), 2, "expected PIXELS or HEIGHTxWIDTH"),
        (("model", "convit_nano", "--batch", "0"), 2, "--batch"),
        (("model",), 2, "Missing argument"),
        (("model", "convit_nanno"), 3, "did you mean convit_nano"),
        (("load", "no/such/place"), 3, "an architecture or a model directory"),
        (("attention",), 2, "No such command"),
    ],
)
def test_bad_input_is_refused(
    args: tuple[str, ...], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*args) == status
    assert text in capsys.readouterr().err


def measure(*args: str) -> Result:
    """``python -m benchmarks.attention ARGS`` in this process."""
    return CliRunner().invoke(attention.main, args)


@pytest.mark.parametrize(
    ("args", "text"), [(("--group", "convt"), "is not one of 'gpsa'"), (("--seconds", "0"), "0.1")]
)
def test_the_repositorys_measurements_refuse_bad_input(args: tuple[str, ...], text: str) -> None:
    done = measure(*args)
    assert done.exit_code == 2
    assert text in done.output


def _stub(rows: list[dict[str, object]]) -> object:
    return lambda settings: {"rows": rows, "curves": {}}


def test_a_group_measured_again_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"gpsa": target("gpsa-192-512").row(5.0), "convit": target("convit-224-b1").row(1.0)}
    monkeypatch.setattr(attention, "GROUPS", {k: _stub([row]) for k, row in made.items()})
    done = measure("--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "1 of 2 goals met, 1 missed" in done.output
    monkeypatch.setitem(attention.GROUPS, "convit", _stub([target("convit-224-b1").row(1.3)]))
    assert measure("--group", "convit", "--out", str(tmp_path)).exit_code == 0
    groups = json.loads((tmp_path / "bench-attention.json").read_text())["groups"]
    assert [g["rows"][0]["value"] for g in groups.values()] == [5.0, 1.3]
    assert all("parent_commit" in group for group in groups.values())


def test_goals_have_unique_names_known_groups_and_words() -> None:
    names = [t.id for t in TARGETS]
    assert len(names) == len(set(names))
    assert {t.group for t in TARGETS} == {*attention.GROUPS, "start", "load"}
    for goal in TARGETS:
        assert goal.sense in (">=", "<=")
        assert len(tables.cells(goal.row(1.0))) == len(tables.HEADER)


@pytest.mark.parametrize(
    ("sense", "value", "met"),
    [(">=", 4.0, True), (">=", 3.99, False), ("<=", 4.0, True), ("<=", 4.01, False)],
)
def test_a_goal_is_met_by_the_value(sense: str, value: float, met: bool) -> None:
    goal = Target("x", "gpsa", "subject", "peer", "faster", sense, 4.0)
    row = goal.row(value, (1.0, 9.0))
    assert row["met"] is met
    assert tables.cells(row)[-1] == ("met" if met else "MISSED")


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    row = target("gpsa-192-1024-memory").row(None, note="no such counter")
    assert row["met"] is None
    assert tables.cells(row)[3:] == ("not measured", "", "no such counter")


def test_an_unknown_goal_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gpsa-192-512'"):
        target("gpsa-192-521")


def test_ratios_have_the_direction_of_their_goal() -> None:
    ours, peer = Timing((1.0, 1.0, 1.0)), Timing((4.0, 4.0, 4.0))
    assert attention.faster(target("gpsa-192-512"), ours, peer)["value"] == 4.0
    assert attention.slower(target("gpsa-192-512-sdpa"), ours, peer)["value"] == 0.25
    assert attention.memory_row(target("gpsa-192-1024-memory"), 2.0, 60.0)["value"] == 30.0
    assert attention.memory_row(target("core-k7-train-memory"), 2.0, 60.0)["value"] == 2 / 60
    assert attention.memory_row(target("core-k7-train-memory"), None, 60.0)["met"] is None


def test_starting_is_judged_by_the_seconds_above_the_bare_interpreter() -> None:
    row = start._row("start-list", Timing((70.0, 75.0, 80.0)), Timing((20.0, 25.0, 20.0)))
    assert row["value"] == pytest.approx(0.05)
    assert row["met"]


def test_an_unknown_subject_and_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="subjects are gpsa, convit, conv_attention"):
        subjects.build("gspa")
    with pytest.raises(ConfigError, match="does not take"):
        subjects.build("gpsa", side="ours", width=3)


def test_a_failing_memory_process_is_an_error() -> None:
    with pytest.raises(ResourceError, match="there is no subject 'gspa'"):
        subjects.memory_mib("gspa")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's /proc")
def test_the_memory_process_answers_in_mib() -> None:
    found = subjects.memory_mib("conv_attention", side="ours", kernel=3, batch=1)
    assert found is not None
    assert 0 < found < 500


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_curves_are_drawn(suffix: str, tmp_path: Path) -> None:
    points = [
        {"side": side, "px": px, "median_ms": px / 10, "mib": None if side == "sdpa" else px / 20}
        for side in ("ours", "timm", "sdpa")
        for px in (224, 512)
    ]
    path = tmp_path / f"curves{suffix}"
    plots.plot_curves({"gpsa": {"curves": {"gpsa-192": points}}}, path)
    assert path.stat().st_size > 5000


def test_a_plot_without_curves_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no curves"):
        plots.plot_curves({"convit": {"curves": {}}}, tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        plots.plot_curves({}, tmp_path / "a.pdf")


def test_the_committed_results_cover_every_goal_as_it_is_stated_now() -> None:
    rows = {row["id"]: row for row in tables.all_rows()}
    assert rows.keys() == {t.id for t in TARGETS}
    for goal in TARGETS:
        assert rows[goal.id]["goal"] == f"{goal.sense} {goal.goal:g}"
        value = rows[goal.id]["value"]
        assert rows[goal.id]["met"] is (None if value is None else goal.met(value))


def test_every_part_of_the_page_is_a_table() -> None:
    for name, part in documents.PARTS.items():
        if name in ("missed", "measured-on"):  # lists
            continue
        lines = part().splitlines()
        assert re.fullmatch(r"(\| --- )+\|", lines[1]), name
        assert all(line.count("|") >= 3 for line in lines[:3]), name


def test_every_missed_goal_is_explained_and_no_other_is() -> None:
    rows = tables.all_rows()
    text = documents.PARTS["missed"]()
    assert "not explained" not in text
    assert sum(line.startswith("- ") for line in text.splitlines()) == sum(
        row["met"] is False for row in rows
    )
    assert set(LIMITS) <= {row["id"] for row in rows}
    assert explained([{**row, "met": True} for row in rows]) == "None is missed."
