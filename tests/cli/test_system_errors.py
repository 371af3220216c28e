"""What the system refuses is said in one line: names, full disks, closed streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.cli import main

SCAN = str(Path(__file__).resolve().parents[2] / "examples" / "digit_3.png")
LONG = "x" * 5000


def status(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    "words",
    [
        ("predict", LONG, SCAN),
        ("predict", f"./{LONG}", SCAN),
        ("predict", f"{LONG}.onnx", SCAN),
        ("predict", f"{LONG}.pt2", SCAN),
        ("predict", "convit_nano", LONG),
        ("predict", "convit_nano", SCAN, "--weights", LONG),
        ("predict", "convit_nano", SCAN, "--set", f"{LONG}=3"),
        ("predict", f"hf-hub:a/{LONG}", SCAN),
        ("verify", f"./{LONG}"),
        ("evaluate", "convit_nano", "--data", LONG),
        ("embed", "convit_nano", "--data", LONG, "--out", "x.npz"),
        ("export", "convit_nano", "--out", f"./{LONG}"),
        ("import", LONG, "--model", "convit_nano", "--out", "x"),
        ("info", LONG),
        ("cite", LONG),
        ("list", LONG),
    ],
    ids=lambda words: " ".join(word[:12] for word in words),
)
def test_a_name_of_5000_characters_is_no_bug(
    words: tuple[str, ...],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status(*words) == 3
    message = capfd.readouterr().err
    message = message[message.index("error: ") :]  # after what was being done
    assert len(message) <= len("error: ") + 300 + 1
    assert "bug" not in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("json_wanted", [(), ("--json",)])
def test_a_full_standard_output_is_said_once(json_wanted: tuple[str, ...]) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-P", "-m", "zoo", "list", *json_wanted]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 6
    assert done.stderr == (
        "error: reading or writing: No space left on device; free some, or write elsewhere\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="sh closes the stream")
def test_a_closed_standard_output_is_as_the_null_device() -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-P", "-m", "zoo", "list"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes")
@pytest.mark.parametrize("words", [("list",), ("list", "--json"), ("--help",), ("doctor",)])
def test_a_reader_that_left_ends_the_command_quietly(words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-P", "-m", "zoo", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("seed", ["-1", str(2**70)])
def test_a_seed_that_no_generator_takes_is_refused(
    seed: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    data = ("--data", "digits", "--out", out)
    assert status("export", "convit_nano", "--init", seed, "--out", out) == 2
    assert status("analyze", "fourier", "convit_nano", "--init", seed, *data) == 2
    assert status("train", "convit_nano", "--seed", seed, *data) == 2


@pytest.mark.parametrize("opset", ["-1", "3", "999"])
def test_an_opset_is_refused_before_the_work(
    opset: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.directory.export_model", lambda *_: 1 / 0)
    words = ("export", "convit_nano", "--opset", opset, "--out", str(tmp_path / "out"), "--json")
    assert status(*words) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "opset"


@pytest.mark.parametrize("rate", ["inf", "nan", "-1", "0"])
def test_a_learning_rate_is_refused_before_the_training(
    rate: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert status("train", "convit_nano", "--data", "digits", "--lr", rate, "--out", str(out)) == 3
    assert "lr must be" in capsys.readouterr().err
    assert not out.exists()
