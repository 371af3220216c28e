"""`ImageDataset` and the deterministic split."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoo.data.dataset import ArraySource, ImageDataset, in_memory
from zoo.data.folders import split_by_digest
from zoo.data.opening import open_dataset
from zoo.errors import ConfigError, DatasetError, InputError, NotFoundError


def _data(count: int = 6) -> ImageDataset:
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    return in_memory("six", ("a", "b"), images, np.arange(count) % 2)


def test_images_come_with_their_class_numbers() -> None:
    data = _data()
    image, target = data[3]
    assert (image.shape, image.dtype, int(image[0, 0, 0]), target) == ((2, 3, 3), np.uint8, 3, 1)
    assert int(data[-1][0][0, 0, 0]) == 5
    assert data.targets.dtype == np.int64
    assert len(list(data)) == 6
    assert data.describe(2) == "six[2]"


def test_positions_beyond_the_end_are_index_errors() -> None:
    with pytest.raises(IndexError):
        _data()[6]


def test_subsets_keep_their_order_and_compose() -> None:
    chosen = _data().subset([5, 1, 3]).subset([2, 0])
    assert [int(image[0, 0, 0]) for image, _ in chosen] == [3, 5]
    assert chosen.targets.tolist() == [1, 1]
    assert [int(image[0, 0, 0]) for image, _ in _data()[1:5:2]] == [1, 3]


@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
def test_a_mask_selects_the_images_where_it_is_true(kind: Callable[[list[bool]], Any]) -> None:
    chosen = _data().subset(kind([False, True, False, False, True, True]))
    assert [int(image[0, 0, 0]) for image, _ in chosen] == [1, 4, 5]


@pytest.mark.parametrize("wrong", [[1.5], [True] * 5, [[0, 1]], ["1"], [6], [-7], 3])
def test_what_is_neither_numbers_nor_a_mask_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"six: expected whole numbers|six has images 0 to 5"):
        _data().subset(wrong)


def test_a_subset_of_nothing_is_no_data_set() -> None:
    for none in ([], [False] * 6):
        with pytest.raises(DatasetError, match="no images"):
            _data().subset(none)


def test_a_data_set_survives_pickling_for_loader_workers() -> None:
    data = pickle.loads(pickle.dumps(open_dataset("digits", "test").subset([4, 2])))
    assert np.array_equal(data[0][0], open_dataset("digits", "test")[4][0])


def test_the_digits_are_the_fixed_split() -> None:
    from zoo.data.digits import load_digits

    for part, size in (("train", 1069), ("validation", 364), ("test", 364)):
        data, known = open_dataset("digits", part), load_digits(part)
        assert (data.name, len(data), data.labels) == (f"digits/{part}", size, known.labels)
        assert np.array_equal(data.targets, known.targets)
        assert np.array_equal(data[7][0], known.images[7])


@pytest.mark.parametrize("targets", [[0, 2], [0, -1]])
def test_class_numbers_without_a_name_are_refused(targets: list[int]) -> None:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(DatasetError, match="2 class names") as caught:
        in_memory("odd", ("a", "b"), images, np.asarray(targets))
    assert caught.value.code == "labels_out_of_range"


@pytest.mark.parametrize(
    ("images", "targets", "text"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), np.zeros(2, int), "uint8 images"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, int), "uint8 images"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3, int), "each of 2 images"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2), "whole class number"),
        (np.zeros((0, 4, 4, 3), np.uint8), np.zeros(0, int), "holds no images"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    images: np.ndarray, targets: np.ndarray, text: str
) -> None:
    with pytest.raises(DatasetError, match=text):
        in_memory("odd", ("a",), images, targets)


def test_the_split_ignores_the_order_of_the_images() -> None:
    targets = np.repeat([0, 1], 10)
    digests = [bytes([value]) for value in range(20)]
    shares = (("test", 0.2), ("validation", 0.2))
    order = np.random.default_rng(0).permutation(20)
    first = split_by_digest(targets, digests, ("a", "b"), shares)
    second = split_by_digest(targets[order], [digests[i] for i in order], ("a", "b"), shares)
    for part in ("train", "validation", "test"):
        assert sorted(order[second[part]]) == first[part].tolist()
    assert [len(first[part]) for part in ("train", "validation", "test")] == [12, 4, 4]


def test_equal_images_stay_in_one_part() -> None:
    digests = [b"a", b"b", b"b", b"b", b"c", b"d", b"e", b"f", b"g", b"h"]
    parts = split_by_digest(np.zeros(10, int), digests, ("x",), (("test", 0.2),))
    assert parts["test"].tolist() == [0, 1, 2, 3]
    assert parts["train"].tolist() == [4, 5, 6, 7, 8, 9]


def test_classes_too_small_to_split_are_named() -> None:
    with pytest.raises(DatasetError, match="class 'rare' has 2 images"):
        split_by_digest(
            np.asarray([0, 0]), [b"a", b"b"], ("rare",), (("test", 0.2), ("validation", 0.2))
        )


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ("nowhere", NotFoundError, "no such folder"),
        ("imagenet", ConfigError, "imagenet:DIR"),
        ("cifar10:", ConfigError, "cannot tell which data"),
        ("cifar10-c:x", ConfigError, "evaluation only"),
        ("", ConfigError, "cannot tell which data"),
    ],
)
def test_specifications_that_lead_nowhere_say_so(
    spec: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        open_dataset(spec, "test")


def test_other_parts_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train, validation, test"):
        open_dataset("digits", "holdout")
    with pytest.raises(ConfigError, match="'stop' or 'skip'"):
        open_dataset("digits", "test", on_unreadable="ignore")


def test_array_sources_hand_out_the_image_itself() -> None:
    images = np.zeros((1, 2, 2, 3), np.uint8)
    assert np.shares_memory(ArraySource(images, "x").read(0), images)
