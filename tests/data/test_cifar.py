"""CIFAR archives: python and binary, packed and unpacked, incomplete and hostile."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.data.writers import (
    Raw,
    cifar_images,
    pack,
    python2_pickle,
    rows_of,
    write_cifar10_binary,
    write_cifar10_python,
    write_cifar100,
)
from zoo.catalog.tables import read_labels
from zoo.data.cifar_pickles import read_table
from zoo.data.digits import PARTS
from zoo.data.opening import open_dataset
from zoo.errors import DatasetError, NotFoundError


def test_the_written_pickles_are_what_python_reads() -> None:
    """So that the files of these tests are the format, not our idea of it."""
    content = {"labels": [3, 300, 70000], "data": np.arange(6, dtype=np.uint8).reshape(2, 3)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy moved the function that the archives name
        theirs = pickle.loads(python2_pickle(content), encoding="latin1")
    ours = read_table(python2_pickle(content), "file")
    assert theirs["labels"] == ours["labels"] == content["labels"]
    assert np.array_equal(theirs["data"], ours["data"])


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "packed"])
@pytest.mark.parametrize("form", ["python", "binary"])
def test_cifar10_opens_in_all_its_forms(tmp_path: Path, form: str, packed: bool) -> None:
    write = {"python": write_cifar10_python, "binary": write_cifar10_binary}[form]
    home = write(tmp_path / "source", per_batch=20)
    place = home.parent
    if packed:
        place = tmp_path / "packed"
        place.mkdir()
        pack(home, place / f"cifar-10-{form}.tar.gz")
    parts = {part: open_dataset(f"cifar10:{place}", part) for part in PARTS}
    assert {part: len(data) for part, data in parts.items()} == {
        "train": 90,
        "validation": 10,
        "test": 20,
    }
    assert parts["test"].labels == read_labels("cifar10")
    images, labels = cifar_images(20, seed=6)
    assert np.array_equal(parts["test"][7][0], images[7])
    assert parts["test"].targets.tolist() == labels
    assert np.bincount(parts["validation"].targets).tolist() == [1] * 10
    kept = {image.tobytes() for image, _ in parts["train"]}
    assert not kept & {image.tobytes() for image, _ in parts["validation"]}


def test_both_forms_give_the_same_parts(tmp_path: Path) -> None:
    python, binary = write_cifar10_python(tmp_path / "a"), write_cifar10_binary(tmp_path / "b")
    for part in PARTS:
        one, other = (open_dataset(f"cifar10:{home}", part) for home in (python, binary))
        assert np.array_equal(one.targets, other.targets)
        assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(one, other, strict=True))


@pytest.mark.parametrize("form", [0, 1], ids=["python", "binary"])
def test_cifar100_takes_the_fine_classes(tmp_path: Path, form: int) -> None:
    home = write_cifar100(tmp_path)[form]
    data = open_dataset(f"cifar100:{home}", "test")
    assert data.labels == read_labels("cifar100")
    assert data.targets.tolist() == cifar_images(300, 100)[1]
    assert np.array_equal(data[250][0], cifar_images(300, 100, seed=1)[0][250])


def test_an_empty_directory_is_told_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"cifar-10-batches-py or cifar-10-python\.tar\.gz"):
        open_dataset(f"cifar10:{tmp_path}", "test")


@pytest.mark.parametrize("name", ["data_batch_3", "batches.meta"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    home = write_cifar10_python(tmp_path)
    (home / name).unlink()
    with pytest.raises(DatasetError, match=f"incomplete: {name} is missing") as caught:
        open_dataset(f"cifar10:{tmp_path}", "train")
    assert caught.value.code == "incomplete"


def test_a_packed_archive_without_a_file_is_incomplete(tmp_path: Path) -> None:
    home = write_cifar10_python(tmp_path / "source")
    (home / "test_batch").unlink()
    pack(home, tmp_path / "cifar-10-python.tar.gz")
    with pytest.raises(DatasetError, match="test_batch is missing"):
        open_dataset(f"cifar10:{tmp_path}", "test")


@pytest.mark.parametrize("name", ["data_batch_2.bin", "data_batch_2"])
def test_a_file_that_was_cut_short_is_damaged(tmp_path: Path, name: str) -> None:
    write = write_cifar10_binary if name.endswith(".bin") else write_cifar10_python
    path = write(tmp_path) / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"cut short|no intact CIFAR file") as caught:
        open_dataset(f"cifar10:{tmp_path}", "train")
    assert caught.value.code == "damaged"


def test_a_packed_archive_that_was_cut_short_is_damaged(tmp_path: Path) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    pack(write_cifar10_python(tmp_path / "source"), archive)
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(DatasetError, match="damaged or cut short"):
        open_dataset(f"cifar10:{tmp_path}", "test")


def test_class_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    home = write_cifar10_python(tmp_path)
    images, labels = cifar_images(20)
    content = {"labels": [*labels[:-1], 17], "data": rows_of(images)}
    (home / "test_batch").write_bytes(python2_pickle(content))
    with pytest.raises(DatasetError, match="class numbers 0 to 17") as caught:
        open_dataset(f"cifar10:{tmp_path}", "test")
    assert caught.value.code == "labels_out_of_range"


HOSTILE = {
    "global": Raw("cos\nsystem\n(U\x04exittR"),
    "builtins": Raw("c__builtin__\neval\n(U\x011tR"),
    "inst": Raw("(U\x04exitios\nsystem\n"),
    "other numpy": Raw("cnumpy.testing\nrundocs\n(U\x01xtR"),
    "newobj": Raw("cnumpy\nndarray\n)\x81"),
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
def test_pickles_that_ask_for_more_than_data_are_refused_unrun(
    tmp_path: Path, payload: Raw
) -> None:
    home = write_cifar10_python(tmp_path)
    images, labels = cifar_images(20)
    content = {"extra": payload, "labels": labels, "data": rows_of(images)}
    (home / "test_batch").write_bytes(python2_pickle(content))
    with pytest.raises(DatasetError, match="asks for more than lists, text and arrays") as caught:
        open_dataset(f"cifar10:{tmp_path}", "test")
    assert caught.value.code == "unsafe_code"


MALFORMED = {
    "empty": b"",
    "no dictionary": python2_pickle([1]),
    "no end": python2_pickle({"a": 1})[:-1],
    "unbalanced": b"\x80\x02u.",
    "unknown memo": b"\x80\x02h\x07.",
    "text": b"<html>not found</html>",
    "keys": python2_pickle({1: 2}),
    "array of nothing": b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray"
    b"\nK\x00\x85U\x01b\x87Ru.",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_pickles_are_damaged_files(data: bytes) -> None:
    with pytest.raises(DatasetError, match="no intact CIFAR file") as caught:
        read_table(data, "data_batch_1")
    assert caught.value.code == "damaged"


def test_no_mutation_of_a_batch_escapes_the_typed_error() -> None:
    images, labels = cifar_images(2)
    good = python2_pickle({"labels": labels, "data": rows_of(images)[:, :8].copy()})
    generator = np.random.default_rng(0)
    for _ in range(3000):
        data = bytearray(good)
        for position in generator.integers(0, len(data), 2):
            data[position] = generator.integers(0, 256)
        try:
            read_table(bytes(data), "file")
        except DatasetError:
            continue
