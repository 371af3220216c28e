"""`evaluate`: streaming, intervals, classes by name, unreadable images, digests, corrupted sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.data.writers import write_classes
from zoo.data.dataset import ImageDataset, align_labels, in_memory
from zoo.data.opening import open_dataset
from zoo.errors import ConfigError, DatasetError, ImageError, InputError
from zoo.evaluation.corrupted import evaluate_corruptions
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.metrics import measure
from zoo.evaluation.predictor import softmax

Array = np.ndarray[Any, Any]


def _data(
    count: int = 40, name: str = "toy", labels: tuple[str, ...] = ("a", "b", "c", "d")
) -> Any:
    """Images whose first pixel is their class number."""
    targets = np.arange(count) % len(labels)
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = targets
    return in_memory("toy", labels, images, targets)


def _logits(images: Sequence[Array]) -> Array:
    """Right but for dark corners; the other pixels are noise in the logits."""
    rows = []
    for image in images:
        values = image[1].reshape(-1)[:4] / 32.0
        values[image[0, 0, 0]] += 4.5 if image[3, 3, 0] >= 64 else -2.0
        rows.append(values)
    return np.stack(rows)


def test_batches_do_not_matter_and_only_one_is_asked_for_at_a_time() -> None:
    data, sizes = _data(), []

    def logits(images: Sequence[Array]) -> Array:
        sizes.append(len(images))
        return _logits(images)

    found = evaluate(logits, data, batch_size=12)
    assert sizes == [12, 12, 12, 4]
    whole = measure(softmax(_logits([image for image, _ in data])), data.targets)
    assert found.values == pytest.approx(whole, nan_ok=True)
    assert found.accuracy.to_dict()["total"] == 40
    assert found.accuracy.correct < 40


def test_progress_counts_every_image() -> None:
    seen: list[int] = []
    evaluate(_logits, _data(), batch_size=16, resamples=0, on_batch=seen.append)
    assert seen == [16, 16, 8]


def test_everything_has_an_interval_around_it_and_is_json() -> None:
    found = evaluate(_logits, _data(), resamples=200).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for name, entry in found["metrics"].items():
        low, high = entry["interval95"]
        assert low <= entry["value"] <= high, name
    assert found["metrics"]["acc1_percent"]["interval95"] == pytest.approx(
        found["interval95_percent"], abs=1e-3
    )
    assert [row["label"] for row in found["classes"]] == ["a", "b", "c", "d"]
    assert np.asarray(found["confusion_matrix"]).sum(1).tolist() == [10] * 4
    assert sum(found["reliability"]["counts"]) == 40


def test_undefined_metrics_are_null_and_classes_without_images_left_out() -> None:
    data = _data(8)
    certain = evaluate(lambda images: 50.0 * np.eye(4)[[i[0, 0, 0] for i in images]], data[0:8:2])
    found = certain.to_dict()
    assert found["metrics"]["unconfidence_percent"] == {"value": None, "interval95": None}
    assert [row["label"] for row in found["classes"]] == ["a", "c"]


def test_the_digest_tells_pixels_names_numbers_and_order() -> None:
    def digest(data: ImageDataset) -> str:
        return evaluate(_logits, data, resamples=0).data_sha256

    data = _data()
    first = digest(data)
    assert digest(_data()) == first
    assert digest(replace(data, name="other")) == first
    images = data.source.images.copy()
    images[3, 2, 2, 1] ^= 1
    assert digest(in_memory("toy", data.labels, images, data.targets)) != first
    assert digest(data.subset([1, 0, *range(2, 40)])) != first
    assert digest(replace(data, labels=("a", "b", "c", "e"))) != first
    assert digest(replace(data, targets=data.targets[::-1].copy())) != first


def test_classes_in_another_order_are_matched_by_name() -> None:
    data = _data()
    plain = evaluate(_logits, data, labels=data.labels, resamples=0)
    order = [2, 0, 3, 1]
    names = tuple(data.labels[place] for place in order)
    moved = evaluate(lambda images: _logits(images)[:, order], data, labels=names, resamples=0)
    assert moved.values == pytest.approx(plain.values, nan_ok=True)
    assert moved.labels == names
    assert np.array_equal(moved.confusion, plain.confusion[np.ix_(order, order)])


@pytest.mark.parametrize(
    ("labels", "code", "text"),
    [
        (("a", "b", "c"), "class_count", "the model has 3 classes .* toy has 4"),
        (("a", "b", "c", "x"), "class_names", "it does not know d; its own are a, b, c, x"),
    ],
)
def test_other_classes_are_an_error_before_anything_runs(
    labels: tuple[str, ...], code: str, text: str
) -> None:
    with pytest.raises(DatasetError, match=text) as caught:
        evaluate(lambda images: pytest.fail("it ran"), _data(), labels=labels)
    assert caught.value.code == code


def test_repeated_names_are_matched_only_in_their_own_order() -> None:
    names = ("crane", "tench", "crane")  # ImageNet has a bird and a machine
    assert align_labels(names, names, "x")[1].tolist() == [0, 1, 2]
    with pytest.raises(DatasetError, match="not the model's"):
        align_labels(("tench", "crane", "crane"), names, "x")


def test_a_head_of_another_width_is_an_error() -> None:
    with pytest.raises(DatasetError, match="returns 7 logits, toy has 4 classes") as caught:
        evaluate(lambda images: np.zeros((len(images), 7)), _data())
    assert caught.value.code == "class_count"


def test_logits_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(InputError, match="NaN"):
        evaluate(lambda images: np.full((len(images), 4), np.nan), _data())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        write_classes(tmp_path / part, {"cat": 5, "dog": 5})
    (tmp_path / "test" / "cat" / "2.png").write_bytes(b"no image")
    return tmp_path


def _shades(images: Sequence[Array]) -> Array:
    return np.asarray([[40.0 - int(image[5, 5, 0]), int(image[5, 5, 0])] for image in images])


def test_an_unreadable_image_stops_the_evaluation(folder: Path) -> None:
    with pytest.raises(ImageError, match=r"2\.png"):
        evaluate(_shades, open_dataset(str(folder), "test"))


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_unreadable_images_are_skipped_and_counted_on_request(
    folder: Path, batch_size: int
) -> None:
    data = open_dataset(str(folder), "test")
    found = evaluate(_shades, data, on_unreadable="skip", batch_size=batch_size, resamples=0)
    assert found.skipped == ("test/cat/2.png",)
    assert (found.accuracy.correct, found.accuracy.total) == (9, 9)
    eager = open_dataset(str(folder), "test", on_unreadable="skip")
    again = evaluate(_shades, eager, resamples=0)
    assert again.skipped == found.skipped
    assert again.data_sha256 == found.data_sha256


def test_a_data_set_of_which_nothing_can_be_read_is_an_error(folder: Path) -> None:
    for path in (folder / "test").rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match="none of the 10 images"):
        evaluate(_shades, open_dataset(str(folder), "test"), on_unreadable="skip")


def test_mc_dropout_averages_the_probabilities_of_its_passes() -> None:
    import torch

    from zoo.layers.mc_dropout import mc_predict

    model = zoo.create_model("resnet_18", num_classes=10, block="mcdo", stem=False).eval()
    small = zoo.InputSpec(size=(16, 16), crop_pct=1.0)
    model.pretrained_cfg = replace(model.pretrained_cfg, input=small)
    images = [image for image, _ in open_dataset("digits", "test")[:4]]
    sampled = zoo.Predictor.from_model(model, mc_samples=3)
    torch.manual_seed(5)
    found = softmax(sampled.logits(images))
    x = torch.stack([model.pretrained_cfg.transform()(image) for image in images])
    torch.manual_seed(5)
    expected = mc_predict(model, x, 3).probabilities
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    plain = softmax(zoo.Predictor.from_model(model).logits(images))
    assert np.abs(found - plain).max() > 1e-5


def test_a_module_of_ones_own_predicts_with_the_input_that_is_stated() -> None:
    import torch
    from torch import nn

    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # the mean of every channel
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    spec = zoo.InputSpec(size=(4, 4), mean=(0.5,) * 3, std=(0.5,) * 3)
    predictor = zoo.Predictor.from_model(module, input=spec, labels=["red", "green", "blue"])
    expected = torch.tensor([1.0, -1.0, -1.0]).softmax(0)
    found = predictor(red)
    assert (found.label, predictor.name, module.training) == ("red", "Sequential", False)
    np.testing.assert_allclose(found.probabilities, expected.numpy(), atol=1e-6)
    with pytest.raises(ConfigError, match=r"pass input=zoo\.InputSpec"):
        zoo.Predictor.from_model(module)


@pytest.mark.parametrize(("ends_in_softmax", "times"), [(True, 1), (False, 0)])
def test_probabilities_in_place_of_logits_are_said_once(
    ends_in_softmax: bool, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    from torch import nn

    last = nn.Softmax(-1) if ends_in_softmax else nn.LogSoftmax(-1)
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    predictor = zoo.Predictor.from_model(module, input=zoo.InputSpec(size=(4, 4)))
    predictor.predict([np.zeros((8, 8, 3), np.uint8)] * 3, batch_size=2)
    assert caplog.text.count("seems to answer with probabilities") == times


def test_what_is_stated_goes_before_what_the_model_says() -> None:
    model = zoo.create_model("convit_nano")
    spec, names = zoo.InputSpec(size=(32, 32), crop_pct=0.5), [f"class {i}" for i in range(10)]
    predictor = zoo.Predictor.from_model(model, input=spec, labels=names)
    assert (predictor.input, predictor.labels) == (spec, tuple(names))


def test_models_without_mc_dropout_cannot_be_sampled() -> None:
    with pytest.raises(ConfigError, match="no MC dropout to sample from"):
        zoo.Predictor.from_model(zoo.create_model("convit_nano"), mc_samples=2)


def _sets(accuracies: dict[tuple[str, int], int]) -> Any:
    for (name, severity), right in accuracies.items():
        images = np.zeros((20, 2, 2, 3), np.uint8)
        images[:right, 0, 0, 0] = 1
        yield name, severity, in_memory(f"x/{name}", ("no", "yes"), images, np.ones(20, int))


def _first_pixel(images: Sequence[Array]) -> Array:
    return np.asarray([[0.0, 1.0] if image[0, 0, 0] else [1.0, 0.0] for image in images])


def test_the_mean_over_corrupted_sets_weighs_them_equally() -> None:
    counts = {("fog", 1): 20, ("fog", 2): 10, ("snow", 1): 3}
    seen: list[tuple[str, int]] = []
    note: Callable[..., None] = lambda name, severity, _: seen.append((name, severity))  # noqa: E731
    found = evaluate_corruptions(_first_pixel, _sets(counts), on_set=note)
    assert seen == list(counts)
    assert found.table() == {"fog": {1: 100.0, 2: 50.0}, "snow": {1: 15.0}}
    assert found.mean_percent == pytest.approx(55.0)
    low, high = found.interval95_percent or (0, 0)
    per_image = np.asarray([3] * 3 + [2] * 7 + [1] * 10) / 3
    half = 100 * 1.96 * per_image.std() / np.sqrt(20)
    assert low == pytest.approx(55 - half, abs=2)
    assert high == pytest.approx(55 + half, abs=2)
    content = found.to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["sets"] == 3


def test_sets_of_different_images_have_a_mean_without_an_interval() -> None:
    one, other = _sets({("fog", 1): 20, ("fog", 2): 10})
    changed = (other[0], other[1], other[2].subset(range(5)))
    found = evaluate_corruptions(_first_pixel, [one, changed])
    assert found.mean_percent == pytest.approx(100.0)
    assert found.interval95_percent is None


def test_no_corrupted_sets_are_an_error() -> None:
    with pytest.raises(DatasetError, match="at least one"):
        evaluate_corruptions(_first_pixel, [])
