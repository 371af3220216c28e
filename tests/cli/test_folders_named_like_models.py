"""A folder that is named like a registered model changes nothing, whichever verb is typed in it."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

import zoo
from zoo.catalog import references
from zoo.cli import main
from zoo.factory.config_json import build_config
from zoo.files.local import sha256_bytes
from zoo.weights.safetensors_file import weights_bytes

DIGIT = str(Path(__file__).resolve().parents[2] / "examples" / "digit_7.png")
ON_VALIDATION = ("--data", "digits", "--part", "validation")
ONLY_NAMES = ("card",)  # it takes no folders
QUICK = (
    ("info", "convit_nano"),
    ("cite", "convit_nano"),
    ("predict", "convit_nano", DIGIT, "--json"),
    ("predict", "convit_nano.digits@1.0.0", DIGIT, "--json"),
    ("embed", "convit_nano", "--data", str(Path(DIGIT).parent), "--out", "e.npz"),
    ("analyze", "gates", "convit_nano", "--data", "digits", "--out", "gates"),
    ("card", "convit_nano"),
    ("fetch", "convit_nano"),
)
SLOW = (
    ("evaluate", "convit_nano", *ON_VALIDATION),
    ("analyze", "fourier", "convit_nano", "--data", "digits", "--fast", "--out", "fourier"),
    ("export", "convit_nano", "--out", "exported", "--format", "onnx"),
    ("bundle", "convit_nano", "--out", "bundle"),
)


def told(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What the command prints on stdout, without times, and that it succeeds."""
    references._say_that_a_folder_is_passed_over.cache_clear()
    with pytest.raises(SystemExit) as stopped:
        main(list(args))
    assert not stopped.value.code, capsys.readouterr().err
    return re.sub(r"in \d+ s\b", "in some s", capsys.readouterr().out)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with folders of another network under registered names."""
    other = zoo.create_model("alternet_nano", pretrained=True)
    data = weights_bytes(other)
    for name in ("convit_nano", "convit_nano.digits@1.0.0"):
        folder = tmp_path / "hostile" / name
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(data)
        config = build_config(other, sha256_bytes(data))
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "clean").mkdir()
    monkeypatch.chdir(tmp_path / "clean")
    return tmp_path / "hostile"


@pytest.mark.parametrize(
    "args",
    [
        *(pytest.param(args, id=" ".join(args[:2])) for args in QUICK),
        *(pytest.param(args, id=" ".join(args[:2]), marks=pytest.mark.slow) for args in SLOW),
    ],
)
def test_a_verb_says_the_same_beside_a_folder_of_the_models_name(
    args: tuple[str, ...],
    hostile: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = told(capsys, *args)
    assert not [r for r in caplog.records if r.name == references.__name__]
    monkeypatch.chdir(hostile)
    with caplog.at_level(logging.WARNING, references.__name__):
        assert told(capsys, *args) == expected
    name = next(arg for arg in args if arg.startswith("convit_nano"))
    said = [r.getMessage() for r in caplog.records if r.name == references.__name__]
    note = f"{name} is the registered model; the folder of that name is ./{name}"
    assert said == ([] if args[0] in ONLY_NAMES else [note])


def test_the_folder_is_reached_by_its_path(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile)
    assert zoo.create_model("convit_nano").pretrained_cfg.architecture == "convit_nano"
    assert zoo.create_model("./convit_nano").pretrained_cfg.architecture == "alternet_nano"


def test_any_other_name_that_exists_is_a_folder(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hostile)
    (hostile / "convit_nano").rename(hostile / "mine.v2")
    assert zoo.create_model("mine.v2").pretrained_cfg.architecture == "alternet_nano"


def test_verify_takes_directories_and_says_so(
    hostile: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(hostile)
    with pytest.raises(SystemExit) as stopped:
        main(["verify", "convit_nano"])
    assert stopped.value.code == 3
    assert "write ./convit_nano for a folder" in capsys.readouterr().err
