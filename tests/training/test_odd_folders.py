"""Folders that change, hold odd names or lose images: said before training, never after it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import zoo
from zoo.cli.train import say_what_is_left_out
from zoo.errors import ConfigError, DatasetError, ImageError
from zoo.training.batches import StreamSource
from zoo.training.loop import Watch
from zoo.training.plan import Plan
from zoo.training.probe import probe
from zoo.training.recipe import scaled
from zoo.training.recipes import get_recipe
from zoo.training.run import is_finished, open_parts, train_model

from .helpers import CLASSES, digits_job, write_folder
from .test_folder_walk import photos_job


class Stopped(Exception):
    pass


def stop(*_: object) -> None:
    raise Stopped


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "photos", count=6)


def test_a_run_is_not_continued_on_a_folder_that_changed(photos: Path, tmp_path: Path) -> None:
    job, out = photos_job(tmp_path, epochs=3), tmp_path / "run"
    with pytest.raises(Stopped):
        train_model(job, out, watch=Watch(on_epoch=stop), report=False)
    (photos / "blue").rename(photos / "violet")
    with pytest.raises(ConfigError, match=r"classes\.blue was 2, is None.*classes\.violet"):
        train_model(job, out, resume=True, report=False)
    (photos / "violet").rename(photos / "blue")
    train_model(job, out, resume=True, report=False)
    assert is_finished(out, job)
    (photos / "red" / "05.png").unlink()
    with pytest.raises(ConfigError, match=r"data_sha256 was .* with the same options and images"):
        is_finished(out, job)


def test_a_run_inside_its_data_would_be_a_class_of_it(photos: Path, tmp_path: Path) -> None:
    job = photos_job(tmp_path)
    for start in (train_model, lambda job, out: probe(job, "knn", out)):
        with pytest.raises(ConfigError, match=r"lies in the data, .* choose an --out beside it"):
            start(job, photos / "run")
    assert sorted(os.listdir(photos)) == sorted(CLASSES)
    for part in ("train", "val", "test"):
        write_folder(tmp_path / "parts" / part, count=2)
    job = digits_job(data=str(tmp_path / "parts"), fraction=1.0)
    with pytest.raises(ConfigError, match="lies in the data"):
        train_model(job, tmp_path / "parts" / "val" / "run")
    train_model(job, tmp_path / "parts" / "run", report=False)  # no part, so no class


def test_images_outside_the_parts_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "test"):
        write_folder(tmp_path / "photos" / part, count=6)
    write_folder(tmp_path / "photos" / "holdout", count=1)
    job = photos_job(tmp_path)
    say_what_is_left_out(job, open_parts(job))
    expected = "3 images (holdout/blue/00.png, holdout/green/00.png, holdout/red/00.png) lie in no"
    assert expected in capsys.readouterr().err


def test_a_class_that_cannot_be_read_at_all_is_named(photos: Path, tmp_path: Path) -> None:
    for path in (photos / "green").iterdir():
        path.write_bytes(path.name.encode())
    with pytest.raises(DatasetError, match="no image of the class 'green' of photos/train can be"):
        open_parts(photos_job(tmp_path, on_unreadable="skip"))("train")


def test_names_that_are_not_utf8_are_trained_on(photos: Path, tmp_path: Path) -> None:
    odd = os.fsencode(photos) + b"/caf\xe9"
    os.rename(photos / "blue", odd)
    with open(odd + b"/\xe9.png", "wb") as file:
        file.write(b"no image")
    job = photos_job(tmp_path, on_unreadable="skip")
    train_model(job, tmp_path / "run")
    model = zoo.create_model(str(tmp_path / "run"), pretrained=True)
    assert model.pretrained_cfg.labels == ("caf\\xe9", "green", "red")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["skipped"] == ["caf\\xe9/\\xe9.png"]


def test_a_folder_whose_own_name_is_not_utf8_is_continued(photos: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    photos.rename(odd)
    job, out = digits_job(data=odd, fraction=1.0, epochs=2, batch_size=6), tmp_path / "run"
    with pytest.raises(Stopped):
        train_model(job, out, watch=Watch(on_epoch=stop), report=False)
    result = train_model(job, out, resume=True, report=False)
    assert [row.epoch for row in result.curve] == [1, 2]
    moved = os.fsdecode(os.fsencode(tmp_path) + b"/run\xe9")
    os.rename(out, moved)
    job = digits_job(data=odd, fraction=1.0, batch_size=6, finetune_from=moved)
    train_model(job, tmp_path / "again")
    assert "fine-tuned from `run\\xe9`" in (tmp_path / "again" / "README.md").read_text()
    assert is_finished(tmp_path / "again", job)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_a_worker_cannot_read_is_named(
    photos: Path, tmp_path: Path, workers: int
) -> None:
    images = zoo.open_dataset(photos, "train")
    (photos / images.source.paths[int(images.positions[0])]).write_bytes(b"no image")
    recipe = scaled(get_recipe("photos-scratch"), batch_size=4)
    spec = zoo.create_model("convit_nano").pretrained_cfg.input
    source = StreamSource(images, spec, recipe, workers)
    plan = Plan(count=len(images), batch_size=4)
    with pytest.raises(ImageError, match=r"^'.*\.png' is not an image") as caught:
        list(source.batches(1, plan.epoch(1), 0, 1))
    assert caught.value.code == "not_an_image"
