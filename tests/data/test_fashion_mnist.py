"""The IDX format and Fashion-MNIST: right, damaged, swapped, in every place where it may lie."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.catalog._data_sets import DATA_SETS
from zoo.catalog.tables import find_data_set, read_labels, sample_images
from zoo.data import fashion_mnist
from zoo.data.idx import parse_idx, read_idx
from zoo.data.opening import open_dataset
from zoo.errors import DatasetError, IntegrityError, NetworkError, NotFoundError
from zoo.training.start import tag_of

COUNTS = {"train": 120, "t10k": 20}


def idx(values: np.ndarray[Any, Any]) -> bytes:
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(np.uint8).tobytes()


def test_idx_files_are_read_packed_and_unpacked(tmp_path: Path) -> None:
    values = np.arange(24).reshape(2, 3, 4)
    (tmp_path / "plain").write_bytes(idx(values))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(values)))
    for name in ("plain", "packed.gz"):
        assert np.array_equal(read_idx(tmp_path / name, 3), values)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "magic"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x02ab", "magic"),  # labels where images were expected
        (b"\x00\x00\x0d\x03" + bytes(12), "magic"),  # float values
        (b"\x00\x00\x08\x03\x00\x00", "truncated"),
        (b"\x00\x00\x08\x03" + struct.pack(">3I", 1, 2, 2) + b"abc", "truncated"),
        (b"\x00\x00\x08\x03" + struct.pack(">3I", 1, 2, 2) + b"abcde", "too_long"),
        (b"\x00\x00\x08\x03" + struct.pack(">3I", 2**31, 2**31, 4), "too_large"),
    ],
    ids=["empty", "labels", "floats", "header", "short", "long", "huge"],
)
def test_a_wrong_idx_file_says_what_is_wrong(data: bytes, code: str) -> None:
    with pytest.raises(DatasetError, match="images") as caught:
        parse_idx(data, 3, "images")
    assert caught.value.code == code


def test_a_cut_archive_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(idx(np.zeros((9, 28, 28))))[:-12])
    with pytest.raises(DatasetError) as caught:
        read_idx(tmp_path / "cut.gz", 3)
    assert caught.value.code == "damaged"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve training and two test images of each class, with the record's digests of them."""
    generator = np.random.default_rng(0)
    digests = {}
    for prefix, part in (("train", "train"), ("t10k", "test")):
        images = generator.integers(0, 256, (COUNTS[prefix], 28, 28), dtype=np.uint8)
        labels = (np.arange(COUNTS[prefix]) % 10).astype(np.uint8)
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
        digests[f"{part}/images"] = hashlib.sha256(images.tobytes()).hexdigest()
        digests[f"{part}/labels"] = hashlib.sha256(labels.tobytes()).hexdigest()
    record = replace(DATA_SETS["fashion_mnist"], digests=digests)
    monkeypatch.setattr("zoo.data.fashion_mnist.RECORD", record)
    return tmp_path


def test_a_sixth_of_every_training_class_is_validation(small: Path) -> None:
    parts = {part: open_dataset(f"fashion_mnist:{small}", part) for part in ("train", "validation")}
    assert {part: np.bincount(images.targets).tolist() for part, images in parts.items()} == {
        "train": [10] * 10,
        "validation": [2] * 10,
    }
    shown = [image.tobytes() for images in parts.values() for image, _ in images]
    assert len(set(shown)) == 120
    assert len(open_dataset(f"fashion_mnist:{small}", "test")) == 20


def test_torchvisions_layout_is_found(small: Path, tmp_path: Path) -> None:
    raw = tmp_path / "root" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in small.glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    assert len(open_dataset(f"fashion_mnist:{tmp_path / 'root'}", "test")) == 20


def test_debians_files_are_found_by_name(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN", small)
    assert open_dataset("fashion_mnist", "test").name == "fashion_mnist/test"


def test_another_data_set_in_the_same_format_is_refused(small: Path) -> None:
    images = idx(np.zeros((20, 28, 28)))
    (small / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    with pytest.raises(IntegrityError, match="not Fashion-MNIST's"):
        open_dataset(f"fashion_mnist:{small}", "test")


def test_missing_files_are_named(small: Path, tmp_path: Path) -> None:
    (small / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DatasetError, match="t10k-labels-idx1-ubyte") as caught:
        open_dataset(f"fashion_mnist:{small}", "test")
    assert caught.value.code == "incomplete"
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no Fashion-MNIST in"):
        open_dataset(f"fashion_mnist:{tmp_path / 'empty'}", "test")


def parquet(small: Path) -> bytes:
    """The test part in the Hub's form."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = read_idx(small / "t10k-images-idx3-ubyte.gz", 3)
    labels = read_idx(small / "t10k-labels-idx1-ubyte.gz", 1)
    rows = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    out = io.BytesIO()
    pq.write_table(pa.table({"image": rows, "label": labels.astype(np.int64)}), out)
    return out.getvalue()


def test_the_hubs_parquet_gives_the_same_images(
    small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    local = open_dataset(f"fashion_mnist:{small}", "test")
    data = parquet(small)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nowhere")
    monkeypatch.setattr(fashion_mnist, "_download", lambda official: data)
    fetched = open_dataset("fashion_mnist", "test")
    assert np.array_equal(fetched.targets, local.targets)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(fetched, local, strict=True))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no parquet at all"])
def test_what_is_no_parquet_is_named(data: bytes) -> None:
    with pytest.raises(DatasetError, match="does not hold PNG images"):
        fashion_mnist.read_parquet(data, "test")


def test_a_mirror_does_not_stand_in_for_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nowhere")
    monkeypatch.setenv("CONVATTN_MIRROR", str(tmp_path))
    with pytest.raises(NetworkError, match="name a folder that has it"):
        open_dataset("fashion_mnist", "test")


@pytest.mark.skipif(not fashion_mnist.DEBIAN.is_dir(), reason="no dataset-fashion-mnist here")
def test_the_real_files_have_the_recorded_parts() -> None:
    record = DATA_SETS["fashion_mnist"]
    for part in ("validation", "test"):
        images = open_dataset("fashion_mnist", part)
        assert len(images) == record.parts[part]
        assert np.bincount(images.targets).tolist() == [1000] * 10


@pytest.mark.parametrize(
    "name",
    [
        "digits",
        pytest.param(
            "fashion_mnist",
            marks=pytest.mark.skipif(
                not fashion_mnist.DEBIAN.is_dir(), reason="no dataset-fashion-mnist here"
            ),
        ),
    ],
)
def test_sample_images_are_the_first_of_every_class_that_training_has_not_seen(name: str) -> None:
    images = open_dataset(name, "validation")
    paths = sample_images(name)
    assert len(paths) == len(images.labels) == 10
    for target, path in enumerate(paths):
        pixels, label = images[list(images.targets).index(target)]
        assert label == target
        assert np.array_equal(np.asarray(Image.open(path).convert("RGB")), pixels)


def test_a_data_set_without_sample_images_has_none() -> None:
    assert sample_images("imagenet1k") == sample_images("") == []


def test_class_names_tell_the_data_set() -> None:
    found = find_data_set(read_labels("fashion_mnist"))
    assert found is DATA_SETS["fashion_mnist"]
    assert find_data_set(("cat", "dog")) is None


def test_a_folder_called_like_a_data_set_is_not_that_data_set() -> None:
    assert tag_of("digits") == "digits"
    assert tag_of("old/digits/") == "digits_folder"
    assert tag_of("fashion_mnist:old") == "fashion_mnist"
