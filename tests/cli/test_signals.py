"""SIGTERM and SIGHUP clean up as Ctrl-C does."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from zoo.cli import main
from zoo.files.staging import staged_directory


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_stopped_writer_leaves_nothing_and_says_so(
    number: int,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write(*args: object, **options: object) -> None:
        with staged_directory(tmp_path / "out") as folder:
            (folder / "model.safetensors").write_bytes(b"half")
            os.kill(os.getpid(), number)

    monkeypatch.setattr("export.directory.export_model", write)
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    outside = signal.signal(number, usual)  # nohup and jobs in the background ignore some
    try:
        with pytest.raises(SystemExit) as caught:
            main(["export", "convit_nano", "--out", str(tmp_path / "out"), "--json"])
        assert signal.getsignal(number) is usual
    finally:
        signal.signal(number, outside)
    assert caught.value.code == status
    assert os.listdir(tmp_path) == []
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "interrupted"


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with pytest.raises(SystemExit):
            main(["list", "--json"])
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("status", [0, 7])
def test_a_signal_that_a_library_catches_ends_the_command_all_the_same(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's exporter makes an error of its own of whatever comes; others go on, until asked
    again."""
    monkeypatch.setattr("zoo.cli._signals._CLEANING_SECONDS", 0.0)

    def verb(_: list[str]) -> None:
        for _ in range(2):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except KeyboardInterrupt:
                heard.append(1)
        sys.exit(status)

    heard: list[int] = []
    monkeypatch.setattr("zoo.cli._main", verb)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as caught:
            main([])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (caught.value.code, len(heard)) == (143, 2)
