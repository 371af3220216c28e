"""ImageNet's synset folders, and the corrupted sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.data.writers import write_cifar_c, write_synsets
from zoo.catalog.tables import read_labels, read_synsets
from zoo.data.corruptions import CORRUPTIONS, open_corruptions
from zoo.data.opening import available_parts, open_dataset
from zoo.errors import ConfigError, DatasetError, NotFoundError


@pytest.fixture(scope="module")
def synsets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synsets(tmp_path_factory.mktemp("imagenet") / "val")


@pytest.mark.parametrize("inside", ["", "val"])
def test_synset_folders_carry_the_labels_of_the_models(synsets: Path, inside: str) -> None:
    root = synsets if not inside else synsets.parent
    assert available_parts(f"imagenet:{root}") == ("validation",)
    data = open_dataset(f"imagenet:{root}", "validation")
    assert (data.name, len(data), data.labels) == (
        "imagenet/validation", 1000, read_labels("imagenet1k"),
    )  # fmt: skip
    assert data.targets.tolist() == list(range(1000))
    assert abs(int(data[200][0][4, 4, 0]) - 200) < 8


def test_synsets_are_sorted_and_name_the_classes_that_are_known() -> None:
    synsets, labels = read_synsets(), read_labels("imagenet1k")
    assert list(synsets) == sorted(set(synsets))
    known = {"n01440764": "tench", "n02123045": "tabby", "n07749582": "lemon"}
    assert {synset: labels[synsets.index(synset)] for synset in known} == known


def test_imagenet_has_no_test_part(synsets: Path) -> None:
    with pytest.raises(NotFoundError, match="parts validation; it has no test part"):
        open_dataset(f"imagenet:{synsets}", "test")


def test_missing_synsets_are_counted_and_named(synsets: Path, tmp_path: Path) -> None:
    shutil.copytree(synsets, tmp_path / "val")
    shutil.rmtree(tmp_path / "val" / "n01440764")
    with pytest.raises(DatasetError, match="no folder for 1 of 1000 synsets: n01440764"):
        open_dataset(f"imagenet:{tmp_path}", "validation")
    (tmp_path / "val" / "n01440764").mkdir()
    with pytest.raises(DatasetError, match="no images of 1 of 1000 synsets: n01440764"):
        open_dataset(f"imagenet:{tmp_path}", "validation")


def test_a_flat_folder_of_validation_images_is_told_to_sort_them(tmp_path: Path) -> None:
    (tmp_path / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"")
    with pytest.raises(DatasetError, match="sort the images into folders named by synset"):
        open_dataset(f"imagenet:{tmp_path}", "validation")


def test_the_corruptions_are_the_fifteen_of_the_original() -> None:
    noise = {"gaussian_noise", "shot_noise", "impulse_noise"}
    blur = {"defocus_blur", "motion_blur", "zoom_blur", "glass_blur"}
    weather = {"snow", "frost", "fog"}
    digital = {"brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"}
    assert len(CORRUPTIONS) == 15
    assert set(CORRUPTIONS) == noise | blur | weather | digital


@pytest.mark.parametrize("kind", ["cifar10-c", "cifar100-c"])
def test_severity_s_is_the_sth_fifth_of_the_rows(tmp_path: Path, kind: str) -> None:
    root = write_cifar_c(tmp_path, CORRUPTIONS)
    seen = list(open_corruptions(f"{kind}:{root}"))
    assert [(name, severity) for name, severity, _ in seen] == [
        (name, severity) for name in CORRUPTIONS for severity in range(1, 6)
    ]
    for name, severity, data in seen:
        assert (data.name, len(data)) == (f"{kind}/{name}/{severity}", 10)
        assert {int(value) for image, _ in data for value in np.unique(image)} == {severity}
        assert data.targets.tolist() == list(range(10))
        assert data.labels == read_labels(kind.removesuffix("-c"))


def test_missing_corruptions_are_named_before_anything_is_read(tmp_path: Path) -> None:
    root = write_cifar_c(tmp_path, CORRUPTIONS[:13])
    with pytest.raises(DatasetError, match=r"pixelate\.npy, jpeg_compression\.npy missing"):
        open_corruptions(f"cifar10-c:{root}")
    assert len(list(open_corruptions(f"cifar10-c:{root}", ("fog",)))) == 5


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    write_cifar_c(tmp_path, ("fog",))
    np.save(tmp_path / "fog.npy", np.asarray([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"fog\.npy is no intact \.npy file") as caught:
        list(open_corruptions(f"cifar10-c:{tmp_path}", ("fog",)))
    assert caught.value.code == "damaged"


def test_arrays_that_were_cut_short_or_do_not_fit_are_damaged(tmp_path: Path) -> None:
    write_cifar_c(tmp_path, ("fog", "snow"))
    path = tmp_path / "fog.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DatasetError, match=r"fog\.npy is no intact"):
        list(open_corruptions(f"cifar10-c:{tmp_path}", ("fog",)))
    np.save(tmp_path / "labels.npy", np.zeros(7, np.uint8))
    with pytest.raises(DatasetError, match=r"50 images and labels\.npy 7 numbers"):
        list(open_corruptions(f"cifar10-c:{tmp_path}", ("snow",)))


@pytest.mark.parametrize("group", ["", "weather"])
def test_imagenet_c_is_read_from_its_folders(synsets: Path, tmp_path: Path, group: str) -> None:
    for severity in range(1, 6):
        folder = tmp_path / group / "fog" / str(severity)
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(synsets)
    found = list(open_corruptions(f"imagenet-c:{tmp_path}", ("fog",)))
    assert [(name, severity, len(data)) for name, severity, data in found] == [
        ("fog", severity, 1000) for severity in range(1, 6)
    ]
    (tmp_path / group / "fog" / "4").unlink()
    with pytest.raises(DatasetError, match="fog/4 missing"):
        open_corruptions(f"imagenet-c:{tmp_path}", ("fog",))


def test_places_without_corrupted_data_and_other_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no ImageNet-C"):
        open_corruptions(f"imagenet-c:{tmp_path}")
    with pytest.raises(DatasetError, match=r"labels\.npy, .* and 11 more missing"):
        open_corruptions(f"cifar10-c:{tmp_path}")
    with pytest.raises(ConfigError, match="unknown corruptions: rain"):
        open_corruptions(f"cifar10-c:{tmp_path}", ("rain",))
    with pytest.raises(ConfigError, match="cifar10-c:DIR"):
        open_corruptions("cifar10-c")
