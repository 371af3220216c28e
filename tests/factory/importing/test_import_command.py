"""`convattn import` as a user meets it, and the directory that it writes: whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch

import zoo
from zoo.cli import main
from zoo.errors import ConfigError, ResourceError
from zoo.factory.importing import importing

from .checkpoints import Call

SCAN = str(Path(__file__).resolve().parents[3] / "examples" / "digit_3.png")


def run(*args: object) -> int:
    """Run the command in this process and return its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    return int(stopped.value.code or 0)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The bundled digits model as someone's training checkpoint."""
    model = zoo.create_model("convit_nano", pretrained=True)
    torch.save({"epoch": 7, "state_dict": model.state_dict()}, tmp_path / "digits.pth.tar")
    return tmp_path / "digits.pth.tar"


def test_an_imported_directory_is_a_model_for_other_verbs(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    assert run("import", checkpoint, "--model", "convit_nano", "--out", out) == 0
    printed = capsys.readouterr().out
    for text in ("torch zip", "dropped keys: epoch", "Apache-2.0", "convit_nano.imported"):
        assert text in printed
    assert sorted(os.listdir(out)) == [
        "config.json", "manifest.json", "model.safetensors", "provenance.json"
    ]  # fmt: skip
    assert run("predict", out, SCAN, "--json") == 0
    assert json.loads(capsys.readouterr().out)
    assert run("verify", out) == 0
    assert "2 files match" in capsys.readouterr().out


def test_two_imports_write_the_same_weights(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        zoo.import_checkpoint(checkpoint, "convit_nano", tmp_path / name)
    for file in ("model.safetensors", "config.json", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_json_is_the_provenance(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("import", checkpoint, "--model", "convit_nano", "--out", tmp_path / "out", "--json")
    assert run(*args) == 0
    written = json.loads((tmp_path / "out" / "provenance.json").read_text("utf-8"))
    assert json.loads(capsys.readouterr().out) == written


def test_list_shows_where_the_published_files_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", "--list") == 0
    out = capsys.readouterr().out
    for record in zoo.catalog.registry.list_checkpoints():
        assert record.name in out
        assert record.address in out


def test_settings_are_json_values(tmp_path: Path) -> None:
    model = zoo.create_model("convit_nano", depth=2, local_up_to_layer=1, mlp_ratio=1.5)
    torch.save(model.state_dict(), tmp_path / "file")
    settings = ("--set", "depth=2", "--set", "local_up_to_layer=1", "--set", "mlp_ratio=1.5")
    command = ("import", tmp_path / "file", "--model", "convit_nano", "--out", tmp_path / "out")
    assert run(*command, *settings) == 0
    imported = zoo.create_model(str(tmp_path / "out"), pretrained=True)
    assert torch.equal(imported.norm.weight, model.norm.weight)
    assert imported.pretrained_cfg.model_args["mlp_ratio"] == 1.5


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        (("--model", "convit_nanno"), 3, "did you mean convit_nano"),
        (("--model", "convit_tiny.fb_in"), 3, "did you mean convit_tiny.fb_in1k"),
        (("--model", "./convit_nano"), 3, "is neither a model name nor a directory"),
        (("--model", "timm:no_such_model"), 3, "has no model 'no_such_model'"),
        (("--model", "convit_nano", "--set", "dpth=3"), 3, "did you mean depth"),
        (("--model", "convit_nano", "--set", "num_heads=7"), 3, "num_heads"),
        (("--model", "convit_nano", "--set", "depth"), 2, "must be KEY=VALUE"),
        (("--model", "convit_nano", "--set", "out=3"), 2, "must be KEY=VALUE"),
        (("--model", "convit_nano", "--ema"), 3, "has no averaged weights"),
        (("--model", "convit_nano", "--unsafe"), 2, "No such option"),
        ((), 2, "--model"),
    ],
)
def test_impossible_arguments_are_explained(
    args: tuple[str, ...],
    status: int,
    text: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("import", checkpoint, "--out", tmp_path / "out", *args) == status
    assert text in capsys.readouterr().err
    assert os.listdir(tmp_path) == [checkpoint.name]


def test_files_that_are_refused_have_exit_codes(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("--model", "convit_nano", "--out", tmp_path / "out", "--json")
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    assert run("import", checkpoint, *command) == 4
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "truncated"
    torch.save({"x": Call(os.system, "true")}, checkpoint)
    assert run("import", checkpoint, *command) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "unsafe_code"
    assert run("import", tmp_path / "nothing.pth", *command) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "not_found"


def test_a_directory_with_content_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    zoo.import_checkpoint(checkpoint, "convit_nano", out)  # an empty one is taken
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ConfigError, match=r"holds convit_nano\.imported already.*--overwrite"):
        zoo.import_checkpoint(checkpoint, "convit_nano", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(ConfigError, match="is a file"):
        zoo.import_checkpoint(checkpoint, "convit_nano", checkpoint)


@pytest.mark.parametrize("step", ["make_manifest", "sha256_bytes", "versions"])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_an_interrupted_import_leaves_nothing(
    step: str,
    failure: BaseException,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object) -> None:
        raise failure

    monkeypatch.setattr(importing, step, fail)
    expected = (ResourceError, OSError) if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        zoo.import_checkpoint(checkpoint, "convit_nano", tmp_path / "out")
    assert os.listdir(tmp_path) == [checkpoint.name]


def test_a_full_disk_is_named(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="No space left") as caught:
        zoo.import_checkpoint(checkpoint, "convit_nano", tmp_path / "out")
    assert caught.value.code == "disk_full"
    assert os.listdir(tmp_path) == [checkpoint.name]


def test_feature_maps_are_no_prediction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = zoo.create_model("fcvit_nano", features_only=True)
    state = {f"backbone.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "file")
    out = tmp_path / "out"
    assert run("import", tmp_path / "file", "--model", "fcvit_nano", "--out", out) == 0
    assert "no classifier" in capsys.readouterr().out
    assert run("predict", out, SCAN) == 3
    assert "returns feature maps" in capsys.readouterr().err
