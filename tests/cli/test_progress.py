"""What export, verify and bundle say while they work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from zoo.cli import _progress, main
from zoo.files.stages import stage, stages_told_to


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("progress") / "out"
    assert run("export", "convit_nano", "--out", str(out), "--format", "onnx", "-q") == 0
    return out


def test_stages_reach_the_listener_inside_and_nobody_outside() -> None:
    heard: list[tuple[str, str]] = []
    stage("before", "nobody listens")
    with stages_told_to(lambda of, what: heard.append((of, what))):
        stage("onnx/model.onnx", "translating")
        with stages_told_to(None):
            stage("onnx/model.onnx", "in silence")
        stage("onnx/model.onnx", "comparing")
    stage("after", "nobody listens")
    assert heard == [("onnx/model.onnx", "translating"), ("onnx/model.onnx", "comparing")]


def test_export_says_one_line_per_stage_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", "convit_nano", "--out", str(tmp_path / "out"), "--format", "onnx") == 0
    said = capsys.readouterr()
    stages = [line.partition("] ")[2] for line in said.err.splitlines() if line.startswith("[")]
    assert stages == [
        "convit_nano: loading",
        "float64 reference: computing at 32x32",
        "convit_nano.digits: capturing the graph",
        "onnx/model.onnx: translating",
        "onnx/model.onnx: comparing with float64",
    ]
    assert "comparing with float64\n" not in said.out


def test_verify_says_each_file_and_level(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", str(exported), "--level", "all", "--level", "basic") == 0
    said = capsys.readouterr().err
    for level in ("all", "basic"):
        assert f"onnx/model.onnx: comparing with float64, optimisation level {level}\n" in said


@pytest.mark.parametrize("option", ["--json", "-q"])
def test_nothing_is_said_where_it_was_not_wanted(
    option: str, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", str(exported), "--level", "all", option) == 0
    assert "comparing" not in capsys.readouterr().err


def test_on_a_terminal_one_line_is_rewritten_and_wiped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(_progress, "_columns", lambda: 30)

    def failing_work() -> None:
        with _progress.progress(quiet=False):
            stage("onnx/model.onnx", "comparing with float64 at every size")
            raise ValueError("the work failed")

    with pytest.raises(ValueError, match="the work"):
        failing_work()
    said = capsys.readouterr().err
    first, shown, wiped = said.split("\r\033[K")
    assert (first, wiped) == ("", "")
    assert shown.endswith("…")
    assert len(shown) == 29


def test_a_wrong_opset_is_answered_before_torch_loads() -> None:
    code = """
import sys
from zoo.cli import main
try:
    main(["export", "convit_nano", "--out", "nowhere", "--opset", "99"])
except SystemExit as stopped:
    print(stopped.code, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "error: opset must be 17 to 25, got 99" in done.stderr
    assert done.stdout.split()[-1] == "False"
