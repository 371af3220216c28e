"""Image folders: layouts, splits, kinds of images, and what is wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.writers import picture, write_classes
from zoo.data.dataset import in_classes_of, in_memory
from zoo.data.digits import PARTS
from zoo.data.opening import available_parts, open_dataset
from zoo.errors import DatasetError, ImageError, NotFoundError


def _paths(data: object) -> set[str]:
    return {data.describe(index) for index in range(len(data))}


def test_class_numbers_become_those_of_the_model() -> None:
    images = in_memory("d", ("b", "a"), np.zeros((3, 2, 2, 3), np.uint8), np.array([0, 1, 0]))
    found = in_classes_of(images, ("a", "b"), 2)
    assert found.labels == ("a", "b")
    assert found.targets.tolist() == [1, 0, 1]
    with pytest.raises(DatasetError, match="returns 7 logits, d has 2 classes"):
        in_classes_of(images, (), 7)


def test_class_folders_are_split_by_content(tmp_path: Path) -> None:
    write_classes(tmp_path / "photos", {"cat": 10, "dog": 15})
    parts = {part: open_dataset(str(tmp_path / "photos"), part) for part in PARTS}
    assert {part: len(data) for part, data in parts.items()} == {
        "train": 15,
        "validation": 5,
        "test": 5,
    }
    assert set.union(*map(_paths, parts.values())) == {
        path.relative_to(tmp_path / "photos").as_posix() for path in tmp_path.rglob("*.png")
    }
    assert parts["test"].name == "photos/test"
    assert parts["test"].labels == ("cat", "dog")
    assert np.bincount(parts["test"].targets).tolist() == [2, 3]


def test_renaming_files_does_not_move_them_to_another_part(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "photos", {"cat": 10, "dog": 10})
    before = {image.tobytes() for image, _ in open_dataset(str(root), "test")}
    for number, path in enumerate(sorted(root.rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"renamed{number}.png"))
    assert {image.tobytes() for image, _ in open_dataset(str(root), "test")} == before


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "photos", {"cat": 5, "dog": 5})
    open_dataset(str(root), "test")
    for path in (root / "cat").iterdir():
        picture(3, (9, 9)).save(path)
    with pytest.raises(DatasetError, match="class 'cat' has 5 images"):
        open_dataset(str(root), "test")  # five times the same image is one image


@pytest.mark.parametrize("name", ["validation", "val", "valid", "Val"])
def test_part_folders_are_the_parts(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path / "train", {"cat": 3, "dog": 4})
    write_classes(tmp_path / name, {"cat": 1})
    write_classes(tmp_path / "test", {"dog": 2})
    assert available_parts(str(tmp_path)) == PARTS
    sizes = {part: len(open_dataset(str(tmp_path), part)) for part in PARTS}
    assert sizes == {"train": 7, "validation": 1, "test": 2}
    test = open_dataset(str(tmp_path), "test")
    assert test.labels == ("cat", "dog")
    assert test.targets.tolist() == [1, 1]


@pytest.mark.parametrize("names", [("train", "val"), ("Training", "Testing")])
def test_parts_without_class_folders_are_no_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    write_classes(tmp_path, dict.fromkeys(names, 6))
    with pytest.raises(DatasetError, match="without class folders inside"):
        open_dataset(str(tmp_path), "train")


@pytest.mark.parametrize("inner", ["{}", "{0}/{0}"])
def test_parts_by_other_names_are_no_classes(tmp_path: Path, inner: str) -> None:
    for part in ("seg_train", "seg_test"):
        write_classes(tmp_path / inner.format(part), {"forest": 3, "sea": 3})
    with pytest.raises(DatasetError, match="seg_test, seg_train: parts by their names"):
        open_dataset(str(tmp_path), "train")


def test_classes_may_have_the_words_of_parts_in_their_names(tmp_path: Path) -> None:
    write_classes(tmp_path, {"train_station/near": 5, "test_tube/far": 5})
    assert open_dataset(str(tmp_path), "train").labels == ("test_tube", "train_station")


def test_validation_is_taken_from_training_if_it_has_no_folder(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 10, "dog": 10})
    write_classes(tmp_path / "test", {"cat": 1, "dog": 1})
    train, validation = (open_dataset(str(tmp_path), part) for part in ("train", "validation"))
    assert (len(train), len(validation)) == (16, 4)
    assert not _paths(train) & _paths(validation)
    assert available_parts(str(tmp_path)) == PARTS


def test_a_missing_part_is_named_with_those_that_exist(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 3, "dog": 3})
    write_classes(tmp_path / "val", {"cat": 1, "dog": 1})
    assert available_parts(str(tmp_path)) == ("train", "validation")
    with pytest.raises(NotFoundError, match="parts train, validation; it has no test part"):
        open_dataset(str(tmp_path), "test")


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "photos", {"test": 5, "control": 5})
    assert open_dataset(str(root), "train").labels == ("control", "test")


def test_hidden_files_and_other_files_are_no_images(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "photos", {"cat": 5, "dog": 5})
    (root / ".cache" / "x").mkdir(parents=True)
    for name in ("._0.png", "notes.txt"):
        (root / "cat" / name).write_bytes(b"no image")
    deep = root / "dog" / "more"
    deep.mkdir()
    picture(9, noise=99).save(deep / "A.JPG", "JPEG")
    data = [open_dataset(str(root), part) for part in PARTS]
    assert sum(map(len, data)) == 11
    assert "dog/more/A.JPG" in set.union(*map(_paths, data))


@pytest.mark.parametrize(
    ("folders", "text"),
    [
        ({}, "has 0 class folders"),
        ({"cat": 3}, "has 1 class folders"),
        ({"cat": 3, "dog": 0}, "class folder 'dog' .* holds no images"),
        ({"cat": 3, "dog": 2}, "class 'dog' has 2 images, too few different ones"),
        ({"cat": 3, "dog": 1}, "class 'dog' has 1 image, too few different ones"),
        ({"train": 3, "test": 3}, "test, train without class folders"),
        ({"train/a": 3, "train/b": 3, "val/a": 1, "valid/a": 1}, "val and valid"),
    ],
)
def test_folders_that_hold_no_data_set_are_explained(
    tmp_path: Path, folders: dict[str, int], text: str
) -> None:
    write_classes(tmp_path, folders)
    with pytest.raises(DatasetError, match=text):
        open_dataset(str(tmp_path), "validation")


def _odd_images(root: Path) -> None:
    """One image of each kind; left half dark, right half bright, unless turned."""
    values = np.full((8, 16), 30, np.uint8)
    values[:, 8:] = 200
    grey = Image.fromarray(values)
    folder = root / "train" / "odd"
    folder.mkdir(parents=True)
    (root / "train" / "other").mkdir()
    picture(1).save(root / "train" / "other" / "x.png")
    grey.save(folder / "1_grey.png")
    Image.fromarray(values.astype(np.uint16) * 257).save(folder / "2_deep.png")
    rgba = grey.convert("RGBA")
    rgba.putalpha(Image.fromarray(np.where(values > 100, 255, 0).astype(np.uint8)))
    rgba.save(folder / "3_alpha.png")
    grey.convert("RGB").convert("CMYK").save(folder / "4_cmyk.jpg", quality=100)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees
    grey.convert("RGB").save(folder / "5_turned.jpg", exif=exif, quality=100)
    (root / "val").mkdir()
    shutil.copytree(root / "train", root / "val", dirs_exist_ok=True)


def test_grey_deep_transparent_cmyk_and_turned_images_become_upright_rgb(tmp_path: Path) -> None:
    _odd_images(tmp_path)
    data = open_dataset(str(tmp_path), "train")
    grey, deep, alpha, cmyk, turned, _ = (data[index][0] for index in range(6))
    for image in (grey, deep, cmyk):
        assert image.shape == (8, 16, 3)
        assert abs(int(image[4, 2, 0]) - 30) <= 6
        assert abs(int(image[4, 13, 2]) - 200) <= 6
    assert alpha[4, 2].tolist() == [255, 255, 255]  # transparency is laid over white
    assert alpha[4, 13].tolist() == [200, 200, 200]
    assert turned.shape == (16, 8, 3)
    assert turned[2, 4, 0] < 60 < 150 < turned[13, 4, 0]


def test_unreadable_images_fail_when_they_are_read(tmp_path: Path) -> None:
    _odd_images(tmp_path)
    (tmp_path / "train" / "odd" / "0_bad.png").write_bytes(b"no image at all")
    data = open_dataset(str(tmp_path), "train")
    assert len(data) == 7
    with pytest.raises(ImageError, match="0_bad"):
        data[0]


def test_unreadable_images_are_skipped_and_listed_on_request(tmp_path: Path) -> None:
    _odd_images(tmp_path)
    folder = tmp_path / "train" / "odd"
    (folder / "0_bad.png").write_bytes(b"no image at all")
    whole = (folder / "1_grey.png").read_bytes()
    (folder / "6_cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "7_gone.png").symlink_to("nowhere.png")
    data = open_dataset(str(tmp_path), "train", on_unreadable="skip")
    bad = ("0_bad.png", "6_cut.png", "7_gone.png")
    assert data.skipped == tuple(f"train/odd/{name}" for name in bad)
    assert len(data) == len(data.targets) == 6
    assert [data[index][1] for index in range(6)] == data.targets.tolist()
