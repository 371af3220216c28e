"""The run directory as a model reference; motion in memory; accuracy."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import pytest
import torch

import zoo
from zoo.data.opening import open_dataset
from zoo.evaluation.evaluate import Accuracy
from zoo.training.augmentation import draw_motions, move
from zoo.training.batches import to_tensor
from zoo.training.recipes import RECIPES


def test_the_run_directory_is_a_model_reference(tiny_run: Path) -> None:
    names = sorted(p.name for p in tiny_run.iterdir())
    assert names == [
        "CARD.md", "README.md", "config.json", "confusion.png", "curves.png", "manifest.json",
        "metrics.json", "model.safetensors",
    ]  # fmt: skip
    model = zoo.create_model(str(tiny_run), pretrained=True)
    assert model.pretrained_cfg.name == "convit_nano.digits"
    assert model.pretrained_cfg.labels == tuple("0123456789")
    metrics = json.loads((tiny_run / "metrics.json").read_text())
    assert metrics["test"]["total"] == 364
    assert len(metrics["curve"]) == 1
    config = json.loads((tiny_run / "config.json").read_text())
    assert config["architecture"] == "zoo_convit_nano"


def test_a_run_directory_without_weights_says_so(tiny_run: Path) -> None:
    (tiny_run / "model.safetensors").unlink()
    with pytest.raises(zoo.errors.NoWeightsError, match=r"no model\.safetensors"):
        zoo.create_model(str(tiny_run), pretrained=True)


def test_a_changed_run_directory_is_refused(tiny_run: Path) -> None:
    path = tiny_run / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(zoo.errors.IntegrityError, match="has SHA-256"):
        zoo.create_model(str(tiny_run), pretrained=True)


def test_wilson_interval_of_known_counts() -> None:
    low, high = Accuracy(90, 100).interval_percent
    z2 = NormalDist().inv_cdf(0.975) ** 2
    middle, half = 90 + z2 / 2, math.sqrt(z2 * (90 * 10 / 100 + z2 / 4))
    expected = [100 * (middle + sign * half) / (100 + z2) for sign in (-1, 1)]
    assert [low, high] == pytest.approx(expected, abs=1e-9)
    assert Accuracy(10, 10).interval_percent[1] == pytest.approx(100)


def test_motion_keeps_shape_and_is_mild() -> None:
    spec = zoo.get_record("convit_nano").input
    images = to_tensor(open_dataset("digits", "validation").subset(range(8)), spec)
    recipe = RECIPES["digits"]
    moved = move(images, draw_motions(8, recipe, torch.Generator().manual_seed(0)))
    assert moved.shape == images.shape
    assert not torch.equal(moved, images)
    still = replace(recipe, rotate_degrees=0.0, shift=0.0, scale=0.0)
    same = move(images, draw_motions(8, still, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(same, images, atol=1e-4, rtol=0)
