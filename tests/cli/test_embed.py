"""convattn embed: features of a folder of images in one file."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.cli import main
from zoo.data.image_listing import list_folder
from zoo.errors import ConfigError, ImageError
from zoo.evaluation.embeddings import write_embeddings

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three scans in nested folders, beside a file that is no image."""
    folder = tmp_path / "pictures"
    for digit, place in ((3, "."), (1, "b/deep"), (7, "ä b")):
        (folder / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(EXAMPLES / f"digit_{digit}.png", folder / place)
    (folder / "notes.txt").write_text("no image")
    return folder


def test_the_file_holds_features_and_names_of_all_images(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "features.npz"
    assert run("embed", "convit_nano", "--data", str(pictures), "--out", str(out)) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == [
        *f"{out}: 3 images, 96 features each, by convit_nano.digits".split()
    ]
    assert "embedding" not in printed.err  # no bar where there is no terminal
    assert "images in 2 folders (b/deep, ä b) inside count" in printed.err
    assert "1 file (notes.txt) left out" in printed.err
    with np.load(out) as file:
        assert sorted(file.files) == ["features", "files", "model"]
        assert file["files"].tolist() == ["b/deep/digit_1.png", "digit_3.png", "ä b/digit_7.png"]
        assert str(file["model"]) == "convit_nano.digits"
        features = file["features"]
    assert features.dtype == np.float32
    model = zoo.create_model("convit_nano", pretrained=True).eval()
    transform = model.pretrained_cfg.transform()
    x = torch.stack([transform(pictures / name) for name in list_folder(pictures).names])
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(x), pre_logits=True).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_the_summary_is_json_on_request(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "f.npz"
    assert run("embed", "convit_nano", "--data", str(pictures), "--out", str(out), "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["images"] == 3
    assert summary["features"] == 96
    assert summary["size_bytes"] == out.stat().st_size
    assert summary["model"] == "convit_nano.digits"


def test_a_terminal_shows_a_bar_on_standard_error(
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes standard error for a terminal then
    monkeypatch.setenv("TERM", "xterm")
    command = ("embed", "convit_nano", "--data", str(pictures), "--out", str(tmp_path / "f.npz"))
    assert run(*command) == 0
    printed = capsys.readouterr()
    assert "embedding" in printed.err
    assert "3/3" in printed.err
    assert "embedding" not in printed.out
    assert run(*command, "--json") == 0
    assert "3/3" not in capsys.readouterr().err


def test_images_are_read_batch_after_batch(pictures: Path, tmp_path: Path) -> None:
    model = zoo.create_model("convit_nano", pretrained=True, num_classes=0)
    sizes: list[int] = []
    model.register_forward_hook(lambda _module, inputs, _out: sizes.append(len(inputs[0])))
    done: list[int] = []
    names = list_folder(pictures).names
    written = write_embeddings(model, pictures, names, tmp_path / "f.npz", 2, done.append)
    assert sizes == done == [2, 1]
    whole = write_embeddings(model, pictures, names, tmp_path / "g.npz", 8)
    with np.load(written.path) as first, np.load(whole.path) as second:
        np.testing.assert_allclose(first["features"], second["features"], atol=1e-5)


def test_the_same_images_give_the_same_bytes(pictures: Path, tmp_path: Path) -> None:
    files = [tmp_path / "f.npz", tmp_path / "g.npz"]
    for file in files:
        assert run("embed", "convit_nano", "--data", str(pictures), "--out", str(file)) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    with zipfile.ZipFile(files[0]) as archive:
        assert archive.testzip() is None


def test_a_run_directory_embeds(tiny_run: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.npz"
    assert run("embed", str(tiny_run), "--data", str(pictures), "--out", str(out)) == 0
    with np.load(out) as file:
        assert file["features"].shape == (3, 96)


def test_a_broken_image_is_named_and_nothing_is_written(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "broken.png").write_bytes(b"not an image")
    out = tmp_path / "out" / "f.npz"
    command = ("embed", "convit_nano", "--data", str(pictures), "--out", str(out))
    assert run(*command, "--batch-size", "1") == 3
    assert "broken.png' is not an image" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_an_older_file_survives_a_failure(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.npz"
    out.write_bytes(b"older")
    (pictures / "broken.png").write_bytes(b"not an image")
    assert run("embed", "convit_nano", "--data", str(pictures), "--out", str(out)) == 3
    assert out.read_bytes() == b"older"


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("nonesuch", "--data", "{p}", "--out", "{t}/f.npz"), 3, "unknown model 'nonesuch'"),
        (("resnet_18", "--data", "{p}", "--out", "{t}/f.npz"), 3, "no weights to load"),
        (("x.onnx", "--data", "{p}", "--out", "{t}/f.npz"), 3, "No such file or directory"),
        (("convit_nano", "--data", "{t}/absent", "--out", "{t}/f.npz"), 3, "is not a folder"),
        (("convit_nano", "--data", "{t}/empty", "--out", "{t}/f.npz"), 3, "no images in"),
        (("convit_nano", "--data", "{p}", "--out", "{t}/f.txt"), 2, "must end with .npz"),
        (("convit_nano", "--data", "{p}", "--out", "{p}/notes.txt/f.npz"), 6, "cannot write"),
        (("convit_nano", "--data", "{p}", "--out", "{t}/f.npz", "--batch-size", "0"), 2, "x>=1"),
        (("convit_nano", "--out", "{t}/f.npz"), 2, "--data"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_arguments_are_explained(
    arguments: tuple[str, ...],
    status: int,
    text: str,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    given = [argument.format(p=pictures, t=tmp_path) for argument in arguments]
    assert run("embed", *given) == status
    assert text in capsys.readouterr().err
    assert run("embed", *given, "--json") == status
    assert "error" in json.loads(capsys.readouterr().out)


def test_a_model_with_a_classifier_and_an_empty_list_are_refused(
    pictures: Path, tmp_path: Path
) -> None:
    model = zoo.create_model("convit_nano", pretrained=True)
    with pytest.raises(ConfigError, match="returns logits of 10 classes; make it with num_classes"):
        write_embeddings(model, pictures, list_folder(pictures).names, tmp_path / "f.npz")
    bare = zoo.create_model("convit_nano", pretrained=True, num_classes=0)
    with pytest.raises(ImageError, match="no images to embed"):
        write_embeddings(bare, pictures, [], tmp_path / "f.npz")
    assert not (tmp_path / "f.npz").exists()


def test_folders_behind_links_are_not_entered(pictures: Path) -> None:
    os.symlink(pictures, pictures / "b" / "again")
    assert len(list_folder(pictures).names) == 3
    with pytest.raises(ImageError, match="no images"):
        list_folder(EXAMPLES.parent / "zoo" / "files")
