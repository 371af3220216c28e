"""From a folder of images to a verified ONNX file: one run directory for every verb."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import cli
from zoo.data.folders import folder_digest
from zoo.errors import ConfigError, DatasetError, ZooError
from zoo.files.manifest import check_files, read_manifest
from zoo.training.job import Job
from zoo.training.probe import probe
from zoo.training.run import train_model
from zoo.training.start import tag_of

from .helpers import CLASSES, SMALL, digits_job, write_folder

CONFIG = [word for key, value in SMALL.items() for word in ("--config", f"{key}={value}")]


def invoke(*words: str) -> str:
    done = CliRunner().invoke(cli, list(words))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def photos_job(walk: Path, **changes: Any) -> Job:
    """One epoch on the photos, with the model as it is registered."""
    settings = {"data": str(walk / "photos"), "fraction": 1.0, "config": {}, "batch_size": 6}
    return digits_job(**{**settings, **changes})


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/ and run/ beside it, trained and exported by one command."""
    root = tmp_path_factory.mktemp("walk")
    photos = write_folder(root / "photos")
    invoke(
        "train", "convit_nano", "--data", str(photos), "--out", str(root / "run"), "--recipe",
        "photos", "--epochs", "2", "--batch-size", "6", "--cpu", "--export", "onnx",
        "--diagnostics", *CONFIG,
    )  # fmt: skip
    return root


def test_the_run_directory_holds_what_it_promises(walk: Path) -> None:
    names = {path.name for path in (walk / "run").iterdir()}
    assert {
        "config.json", "model.safetensors", "metrics.json", "manifest.json", "diagnostics.jsonl",
        "curves.png", "confusion.png", "README.md", "onnx", "parity.json",
    } <= names  # fmt: skip
    assert "checkpoint.safetensors" not in names
    manifest = read_manifest(walk / "run")
    check_files(walk / "run", manifest)
    assert {"metrics.json", "curves.png", "onnx/model.onnx"} <= set(manifest.paths)


def test_class_names_travel(walk: Path) -> None:
    config = json.loads((walk / "run" / "config.json").read_text())
    assert tuple(config["label_names"]) == CLASSES
    graph = onnx.load(walk / "run" / "onnx" / "model.onnx")
    text = json.dumps({entry.key: entry.value for entry in graph.metadata_props})
    assert all(name in text for name in CLASSES)
    assert zoo.create_model(str(walk / "run")).pretrained_cfg.labels == CLASSES


def test_no_file_of_the_run_tells_where_it_was_made(walk: Path) -> None:
    for path in (walk / "run").rglob("*"):
        if path.is_file():
            assert str(walk).encode() not in path.read_bytes(), path.name


def test_the_card_is_a_draft_with_the_measured_numbers(walk: Path) -> None:
    card = (walk / "run" / "README.md").read_text()
    metrics = json.loads((walk / "run" / "metrics.json").read_text())
    assert f"{metrics['test']['acc1_percent']:.1f} %" in card
    assert "blue, green, red" in card
    assert "<" not in card
    assert "<Where the 30 images come from" in (walk / "run" / "CARD.md").read_text()
    assert "CARD.md" not in read_manifest(walk / "run").paths
    assert metrics["evaluation"]["labels"] == list(CLASSES)
    assert np.sum(metrics["evaluation"]["confusion_matrix"]) == metrics["test"]["total"]


def test_predict_evaluate_export_and_verify_take_the_directory(walk: Path, tmp_path: Path) -> None:
    run, image = str(walk / "run"), str(walk / "photos" / "red" / "00.png")
    for reference in (run, f"{run}/onnx/model.onnx"):
        found = json.loads(invoke("predict", reference, image, "--topk", "1", "--json"))
        assert found[0]["top"][0]["label"] in CLASSES
    invoke("evaluate", run, "--data", str(walk / "photos"), "--part", "test", "--json")
    invoke("export", run, "--out", str(tmp_path / "again"), "--format", "onnx")
    invoke("verify", run)
    again = read_manifest(tmp_path / "again")
    assert again.digest("model.safetensors") == read_manifest(walk / "run").digest(
        "model.safetensors"
    )


def test_diagnostics_have_a_line_for_each_epoch(walk: Path) -> None:
    lines = (walk / "run" / "diagnostics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["epoch"] for row in rows] == [1, 2]
    gated, plain = rows[0]["layers"]
    assert all(0 < gate < 1 for gate in gated["gates"])
    assert plain["gates"] is None
    assert len(gated["nonlocality"]) == len(plain["nonlocality"]) == 4
    assert all(value > 0 for value in gated["nonlocality"])


def test_a_second_training_starts_from_the_first(walk: Path, tmp_path: Path) -> None:
    job = photos_job(walk, finetune_from=str(walk / "run"), freeze=("backbone",))
    train_model(job, tmp_path, report=False)
    first = zoo.create_model(str(walk / "run"), pretrained=True).state_dict()
    second = zoo.create_model(str(tmp_path), pretrained=True).state_dict()
    changed = {key for key in first if not torch.equal(first[key], second[key])}
    assert changed == {"head.weight", "head.bias"}


def test_other_classes_get_a_new_head(walk: Path, tmp_path: Path) -> None:
    job = digits_job(
        finetune_from="convit_nano",
        config={},
        data=str(walk / "photos"),
        fraction=1.0,
        batch_size=6,
    )
    train_model(job, tmp_path, report=False)
    model = zoo.create_model(str(tmp_path), pretrained=True)
    assert model.num_classes == 3
    assert model.pretrained_cfg.name == "convit_nano.photos"


def test_frozen_batch_norm_stands_still(walk: Path, tmp_path: Path) -> None:
    job = photos_job(walk, model="resnet_nano", freeze=("backbone",))
    train_model(job, tmp_path, report=False)
    trained = zoo.create_model(str(tmp_path), pretrained=True).state_dict()
    start = zoo.factory.create.create_random("resnet_nano", 0, num_classes=3).state_dict()
    changed = {key for key in start if not torch.equal(start[key], trained[key])}
    assert changed
    assert not any("running" in key or "num_batches" in key for key in changed)


@pytest.mark.parametrize("model", ["convit_nano", "resnet_nano"])
def test_training_at_a_higher_resolution(model: str, walk: Path, tmp_path: Path) -> None:
    source = "convit_nano" if model == "convit_nano" else ""
    job = photos_job(walk, model=model, img_size=48, finetune_from=source)
    train_model(job, tmp_path, report=False)
    again = zoo.create_model(str(tmp_path), pretrained=True).eval()
    assert again.pretrained_cfg.input.size == (48, 48)
    assert again(torch.zeros(1, 3, 48, 48)).shape == (1, 3)
    if model == "convit_nano":
        assert again.patch_embed.grid == (12, 12)


def test_freezing_what_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such part; did you mean 'blocks\.0'"):
        train_model(digits_job(freeze=("block.0",)), tmp_path)
    with pytest.raises(ConfigError, match="nothing to train"):
        train_model(digits_job(freeze=("backbone", "head")), tmp_path)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds weights of convit_nano, not of resnet_nano"):
        train_model(
            digits_job(model="resnet_nano", config={}, finetune_from="convit_nano"), tmp_path
        )


def test_unreadable_images_fail_or_are_left_out(tmp_path: Path) -> None:
    photos = write_folder(tmp_path / "photos")
    (photos / "red" / "99.png").write_bytes(b"not an image")
    job = digits_job(data=str(photos), fraction=1.0, batch_size=6)
    with pytest.raises(ZooError, match=r"99\.png"):
        train_model(job, tmp_path / "a", report=False)
    job = digits_job(data=str(photos), fraction=1.0, batch_size=6, on_unreadable="skip")
    result = train_model(job, tmp_path / "b", report=False)
    assert result.images + result.best.validation.total + result.test.total == 30
    assert json.loads((tmp_path / "b" / "metrics.json").read_text())["skipped"] == ["red/99.png"]


def test_the_metrics_say_which_images_were_trained_on(walk: Path, tmp_path: Path) -> None:
    metrics = json.loads((walk / "run" / "metrics.json").read_text())
    assert sum(metrics["images"].values()) == 30
    assert sum(metrics["classes"].values()) == metrics["images"]["train"]
    shutil.copytree(walk / "photos", tmp_path / "moved")
    assert metrics["data_sha256"] == folder_digest(tmp_path / "moved")
    (tmp_path / "moved" / "red" / "00.png").unlink()
    assert metrics["data_sha256"] != folder_digest(tmp_path / "moved")


def test_evaluate_measures_all_of_a_folder_that_was_not_trained_on(
    walk: Path, tmp_path: Path
) -> None:
    run = str(walk / "run")
    shutil.copytree(walk / "photos", tmp_path / "moved")
    known = invoke("evaluate", run, "--data", str(tmp_path / "moved"))
    assert "measured on 6 of 30 images; 24 are not in the test part" in known
    (tmp_path / "moved" / "red" / "00.png").unlink()
    other = invoke("evaluate", run, "--data", str(tmp_path / "moved"))
    assert "moved/all" in other
    assert "measured on 29 of 29 images\n" in other
    grown = shutil.copytree(tmp_path / "moved", tmp_path / "later" / "photos")
    found = invoke("evaluate", run, "--data", str(grown))
    assert "of 29 images; 23 are not in the test part" in found  # it has seen most of the others
    whole = invoke("evaluate", run, "--data", str(walk / "photos"), "--part", "all", "--json")
    [found] = json.loads(whole)["results"].values()
    assert (found["total"], found["of"]) == (30, 30)


def test_an_oblong_input_is_trained_and_predicted_at(walk: Path, tmp_path: Path) -> None:
    train_model(photos_job(walk, img_size=(24, 40)), tmp_path / "run", report=False)
    model = zoo.create_model(str(tmp_path / "run"), pretrained=True)
    assert model.pretrained_cfg.input.size == (24, 40)
    assert Job(model="convit_nano", data="digits", img_size=(8, 8)).img_size == 8


def test_images_of_all_kinds_train(tmp_path: Path) -> None:
    """Grey, transparent, CMYK, 16-bit and rotated by EXIF."""
    photos = write_folder(tmp_path / "photos", count=8)
    image = Image.open(photos / "red" / "00.png")
    image.convert("L").save(photos / "red" / "l.png")
    image.convert("RGBA").save(photos / "red" / "rgba.png")
    image.convert("CMYK").save(photos / "red" / "cmyk.jpg")
    wide = np.asarray(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(wide).save(photos / "red" / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(photos / "red" / "turned.jpg", exif=exif)
    job = digits_job(data=str(photos), fraction=1.0, batch_size=6, pipeline="stream")
    assert train_model(job, tmp_path / "run", report=False).images == 15


def test_a_class_without_images_is_an_error(tmp_path: Path) -> None:
    photos = write_folder(tmp_path / "photos")
    shutil.rmtree(photos / "red")
    (photos / "red").mkdir()
    with pytest.raises(DatasetError, match="red"):
        train_model(digits_job(data=str(photos), fraction=1.0), tmp_path / "run")


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_a_probe_needs_no_training(kind: str, tmp_path: Path) -> None:
    found = probe(digits_job(config={}), kind, tmp_path)
    assert found.training_images == 100
    assert found.validation.percent > 90  # features of the bundled weights
    assert found.test is not None
    content = json.loads((tmp_path / "probe.json").read_text())
    assert content["test"] == found.test.to_dict()
    assert f"{kind} probe on 96 frozen features" in found.summary()


def test_a_probe_of_an_untrained_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(zoo.errors.NoWeightsError):
        probe(digits_job(model="resnet_18", config={}), "knn", tmp_path)


def test_tags_come_from_the_place_of_the_data() -> None:
    places = {"digits": "digits", "cifar10:/x/y": "cifar10", "/a/My photos 2/": "my_photos_2"}
    assert {place: tag_of(place) for place in places} == places
    assert tag_of("/data/2024") == "data_2024"


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    words = [
        "train",
        "convit_nano",
        "--data",
        "digits",
        "--out",
        str(tmp_path),
        "--fraction",
        "0.1",
    ]
    words += ["--epochs", "1", "--set", "lr=0.001", "--json", "--tensorboard", *CONFIG]
    first = json.loads(invoke(*words))
    assert first["recipe"]["lr"] == 0.001
    assert (tmp_path / "tensorboard").is_dir()
    before = (tmp_path / "model.safetensors").stat().st_mtime_ns
    assert json.loads(invoke(*words, "--resume")) == first
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before


def test_the_directory_becomes_a_bundle(walk: Path, tmp_path: Path) -> None:
    (tmp_path / "words.md").write_text("## Data\nColours.\n")
    invoke(
        "bundle", str(walk / "run"), "--card", str(tmp_path / "words.md"),
        "--out", str(tmp_path / "bundle"), "--version", "1.0.0",
        "--licence", "cc-by-4.0", "--no-quantized",
    )  # fmt: skip
    manifest = read_manifest(tmp_path / "bundle")
    check_files(tmp_path / "bundle", manifest)
    assert {"README.md", "onnx/model.onnx"} <= set(manifest.paths)
    again = zoo.create_model(str(tmp_path / "bundle"), pretrained=True)
    assert again.pretrained_cfg.labels == CLASSES
