"""What is chosen and measured on which part of the data, by parts of three different sizes."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.data.opening import open_dataset
from zoo.errors import ConfigError
from zoo.evaluation.evaluate import Accuracy
from zoo.evaluation.predictor import Predictor
from zoo.training.job import Job, TrainingResult
from zoo.training.loop import Watch
from zoo.training.run import train_model

from .helpers import SMALL, recipe

COUNTS = {"train": 8, "validation": 3, "test": 5}  # images of each of the two classes


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """part/class/*.png. Validation images have their classes swapped, so that what is right there
    is wrong in the test part: a choice or a score on the wrong part shows.
    """
    root = tmp_path_factory.mktemp("parts")
    generator = np.random.default_rng(0)
    for part, count in COUNTS.items():
        for number, name in enumerate(("dark", "light")):
            bright = (number == 1) != (part == "validation")
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 60, (32, 32, 3)) + (180 if bright else 0)
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def trained(
    parts: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainingResult, list[bool]]:
    """A CNN with batch norm: run directory, result, whether the shown network was in eval mode."""
    out = tmp_path_factory.mktemp("run") / "run"
    shown: list[bool] = []
    job = Job(
        model="resnet_nano",
        data=str(parts),
        config={"num_blocks": (1, 1, 1, 1), "widths": (8, 8, 8, 8)},
        recipe=recipe(epochs=6, batch_size=8, warmup_epochs=0, lr=1e-2, ema_decay=0.0),
    )
    watch = Watch(on_epoch=lambda result, model: shown.append(not model.training))
    return out, train_model(job, out, watch=watch), shown


def test_the_epoch_is_chosen_on_validation_images(
    trained: tuple[Path, TrainingResult, list[bool]],
) -> None:
    _, result, _ = trained
    assert {row.validation.total for row in result.curve} == {2 * COUNTS["validation"]}
    most = max(row.validation.correct for row in result.curve)
    assert result.best == [row for row in result.curve if row.validation.correct == most][-1]


def test_the_test_score_is_of_test_images(
    trained: tuple[Path, TrainingResult, list[bool]],
) -> None:
    _, result, _ = trained
    assert result.test is not None
    assert result.test.total == 2 * COUNTS["test"]


def test_the_report_is_of_test_images(trained: tuple[Path, TrainingResult, list[bool]]) -> None:
    out, _, _ = trained
    found = json.loads((out / "metrics.json").read_text())["evaluation"]
    assert np.sum(found["confusion_matrix"]) == 2 * COUNTS["test"]
    assert found["dataset"].endswith("/test")


def test_the_test_score_is_what_the_saved_weights_reach(
    trained: tuple[Path, TrainingResult, list[bool]], parts: Path
) -> None:
    """In eval mode: batch norm in training mode would take its statistics from the images."""
    out, result, _ = trained
    model = zoo.create_model(str(out), pretrained=True)
    predictor = Predictor.from_model(model.eval())
    images = open_dataset(str(parts), "test")
    logits = predictor.logits([image for image, _ in images])
    right = int((np.asarray(logits).argmax(-1) == images.targets).sum())
    assert result.test == Accuracy(right, len(images))


def test_the_model_comes_back_in_eval_mode(parts: Path) -> None:
    from zoo.training.loop import train

    model = zoo.create_model("resnet_nano", num_classes=2)
    images = {part: open_dataset(str(parts), part) for part in COUNTS}
    spec = model.pretrained_cfg.input
    train(model, spec, images.get, recipe(epochs=1, batch_size=8, warmup_epochs=0))
    assert not model.training


def test_a_result_that_does_not_beat_its_baseline_says_so() -> None:
    from zoo.training.baseline import Baseline
    from zoo.training.job import EpochResult
    from zoo.training.recipes import RECIPES

    rows = tuple(
        EpochResult(epoch, 1.0, Accuracy(right, 100), 1.0, 0.1)
        for epoch, right in enumerate((80, 70, 50), start=1)
    )
    result = TrainingResult({}, RECIPES["digits"], rows[0], None, rows, 1.0, 100)
    found = result.warnings(Baseline("majority class", Accuracy(85, 100)))
    assert "80.0 % does not beat the baseline (majority class, 85.0 %)" in found[0]
    assert "the best epoch is the first one looked at (1)" in found[1]
    assert "validation fell from 80.0 % in epoch 1 to 50.0 % at the end" in found[2]
    good = TrainingResult({}, RECIPES["digits"], rows[0], None, rows[:1], 1.0, 100)
    assert good.warnings(Baseline("majority class", Accuracy(50, 100))) == ()
    perfect = EpochResult(3, 0.1, Accuracy(100, 100), 1.0, 0.1)
    best = TrainingResult({}, RECIPES["digits"], perfect, None, (rows[0], perfect), 1.0, 100)
    assert best.warnings(Baseline("nearest neighbours", Accuracy(100, 100))) == ()


def test_the_baseline_of_colours_is_perfect_and_named(tmp_path: Path) -> None:
    from zoo.training.baseline import measure_baseline

    from .helpers import write_folder

    photos = str(write_folder(tmp_path / "photos"))
    found = measure_baseline(open_dataset(photos, "train"), open_dataset(photos, "validation"))
    assert found.name == "logistic regression on pixels"
    assert found.validation == Accuracy(6, 6)


@pytest.mark.parametrize(
    ("options", "start", "name"),
    [
        ({}, "convit_nano.digits@1.1.0", "small-images"),
        ({"start": ""}, "", "small-images"),
        ({"config": SMALL}, "", "small-images"),
        ({"config": {"drop_path_rate": 0.1}}, "convit_nano.digits@1.1.0", "small-images"),
        ({"img_size": (96, 96)}, "convit_nano.digits@1.1.0", "photos"),
        ({"img_size": (96, 96), "start": ""}, "", "photos-scratch"),
    ],
    ids=["plain", "scratch", "other shape", "same shape", "large", "large scratch"],
)
def test_a_folder_gets_its_recipe_and_start(
    parts: Path, options: dict[str, object], start: str, name: str
) -> None:
    from zoo.training.defaults import choose_defaults

    found = choose_defaults("convit_nano", str(parts), **options)  # type: ignore[arg-type]
    assert (found.start, found.recipe.name) == (start, name)
    assert f"recipe {name}" in found.reason
    assert ("starts from convit_nano.digits@1.1.0" in found.reason) == bool(start)


def test_a_small_folder_sees_120000_images_within_limits(parts: Path) -> None:
    from zoo.training.defaults import choose_defaults

    assert choose_defaults("convit_nano", str(parts)).recipe.epochs == 100  # 16 images: the most
    assert choose_defaults("resnet_nano", str(parts)).recipe.name == "small-images-cnn"
    assert choose_defaults("alternet_nano", str(parts)).recipe.name == "small-images"
    asked = choose_defaults("convit_nano", str(parts), epochs=7)
    assert asked.recipe.epochs == 7
    assert "recipe small-images, 7 epochs" in asked.reason


def test_a_data_set_with_a_name_starts_from_random_weights() -> None:
    from zoo.training.defaults import choose_defaults

    found = choose_defaults("convit_nano", "digits")
    assert (found.start, found.recipe.name) == ("", "digits")


def test_seeding_leaves_back_ends_alone_that_are_not_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`torch.manual_seed` formats a stack and queues a call for each of them, every time."""
    from zoo.training.machine import seed_torch

    stacks: list[int] = []
    monkeypatch.setattr(traceback, "format_stack", lambda *_: stacks.append(1) or [])
    with torch.random.fork_rng(devices=[]):
        seed_torch(4)
        drawn = torch.rand(1)
        seed_torch(4)
        assert torch.equal(drawn, torch.rand(1))
    assert not stacks


@pytest.mark.parametrize(
    ("model", "advice"), [("py:mine.py:Net", "your own loop"), (".", "name its architecture")]
)
def test_what_is_not_trained_is_refused_before_the_data_are_read(model: str, advice: str) -> None:
    from zoo.training.defaults import choose_defaults

    with pytest.raises(ConfigError, match=advice):
        choose_defaults(model, "no-such-folder/")
