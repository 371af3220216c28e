"""The digits: one split for ever, and what the examples are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo.data.digits import PARTS, load_digits
from zoo.errors import ConfigError


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
