"""Digits, the loop and the run directory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
import zoo.errors
import zoo.factory
from zoo.errors import ConfigError, ResourceError, UnknownModelError
from zoo.evaluation import Accuracy, measure_accuracy
from zoo.training.digits import PARTS, load_digits
from zoo.training.loop import Recipe, augment, to_tensor, train
from zoo.training.run import train_model


def test_the_parts_are_disjoint_complete_and_stratified() -> None:
    from sklearn.datasets import load_digits as original

    parts = {name: load_digits(name) for name in PARTS}
    assert sum(len(p.images) for p in parts.values()) == 1797
    assert len(parts["test"].images) >= 360
    counts = np.stack([np.bincount(p.targets, minlength=10) for p in parts.values()])
    assert np.array_equal(counts.sum(0), np.bincount(original().target))
    for count, share in zip(counts, (0.6, 0.2, 0.2), strict=True):
        assert np.abs(count / counts.sum(0) - share).max() < 0.02


def test_the_split_depends_on_the_scans_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn.datasets

    bunch = sklearn.datasets.load_digits()
    order = np.random.default_rng(0).permutation(1797)
    bunch.images, bunch.target = bunch.images[order], bunch.target[order]
    expected = {part: _content(load_digits(part)) for part in PARTS}
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: bunch)
    load_digits.cache_clear()
    try:
        assert {part: _content(load_digits(part)) for part in PARTS} == expected
    finally:
        load_digits.cache_clear()


def _content(data: object) -> list[bytes]:
    return sorted(image.tobytes() for image in data.images)  # type: ignore[attr-defined]


def test_no_scan_stands_in_two_parts() -> None:
    seen = [set(_content(load_digits(part))) for part in PARTS]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_scans_are_uint8_in_three_equal_channels() -> None:
    images = load_digits("validation").images
    assert images.shape[1:] == (8, 8, 3)
    assert images.dtype == np.uint8
    assert images.max() == 255
    assert (images[..., 0] == images[..., 2]).all()


def test_the_examples_are_scans_of_the_test_part() -> None:
    from PIL import Image

    data = load_digits("test")
    known = {image.tobytes(): int(y) for image, y in zip(data.images, data.targets, strict=True)}
    files = sorted((Path(__file__).parents[2] / "examples").glob("digit_*.png"))
    assert len(files) == 10
    for file in files:
        array = np.asarray(Image.open(file).convert("RGB"))
        assert known[array.tobytes()] == int(file.stem[-1])


def test_unknown_parts_are_named() -> None:
    with pytest.raises(ConfigError, match="train, validation, test"):
        load_digits("holdout")


def _small_run(seed: int = 0) -> tuple[object, dict[str, torch.Tensor]]:
    model = zoo.factory.create_random("convit_nano", seed, depth=1, embed_dim=16)
    recipe = Recipe(epochs=2, seed=seed, lr=3e-3, warmup_epochs=1)
    result = train(model, model.pretrained_cfg.input, load_digits, recipe)
    return result, result.state


def test_training_is_deterministic_from_its_seed() -> None:
    random_state = torch.random.get_rng_state()
    first, state = _small_run()
    second, again = _small_run()
    assert torch.equal(torch.random.get_rng_state(), random_state), "global generator touched"
    assert first.curve[-1].loss == second.curve[-1].loss  # type: ignore[attr-defined]
    for key, value in state.items():
        assert torch.equal(value, again[key]), key
    assert not torch.equal(_small_run(seed=1)[1]["head.weight"], state["head.weight"])


def test_training_lowers_the_loss() -> None:
    result, _ = _small_run()
    first, last = result.curve[0], result.curve[-1]  # type: ignore[attr-defined]
    assert last.loss < first.loss


def test_the_run_directory_is_a_model_reference(tiny_run: Path) -> None:
    names = sorted(p.name for p in tiny_run.iterdir())
    assert names == ["config.json", "manifest.json", "metrics.json", "model.safetensors"]
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


def test_an_unwritable_place_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError):
        train_model("convit_nano", "digits", tmp_path / "file" / "run", Recipe())


def test_unknown_data_and_models_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="digits"):
        train_model("convit_nano", "mnist", tmp_path, Recipe())
    with pytest.raises(UnknownModelError, match="convit_nano"):
        train_model("convit_nan", "digits", tmp_path, Recipe())


def test_augmentation_keeps_shape_and_is_mild() -> None:
    spec = zoo.get_record("convit_nano").input
    images = to_tensor(load_digits("validation"), spec)[:8]
    moved = augment(images, Recipe(), torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert not torch.equal(moved, images)
    still = augment(
        images, Recipe(rotate_degrees=0, shift=0, scale=0), torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(still, images, atol=1e-4, rtol=0)


def test_wilson_interval_of_known_counts() -> None:
    low, high = Accuracy(90, 100).interval_percent
    assert low == pytest.approx(82.56, abs=0.01)
    assert high == pytest.approx(94.48, abs=0.01)
    assert Accuracy(10, 10).interval_percent[1] == pytest.approx(100)


def test_accuracy_counts_over_batches() -> None:
    images = np.arange(10)
    found = measure_accuracy(lambda batch: np.eye(10)[batch], images, images % 9, batch_size=3)
    assert (found.correct, found.total) == (9, 10)
    with pytest.raises(ValueError, match="equally many"):
        measure_accuracy(lambda batch: batch, images, images[:3])
