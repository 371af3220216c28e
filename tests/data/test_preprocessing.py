"""Images in: kinds, orientation, resizing equal to timm's, errors."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.catalog.weights_records import InputSpec
from zoo.data.image_listing import list_sources
from zoo.data.preprocessing import build_transform, preprocess, read_image
from zoo.errors import ImageError, NotFoundError


def _picture(width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(0)
    values = generator.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 1.0])
@pytest.mark.parametrize("size", [(301, 200), (200, 301), (224, 224), (50, 90)])
def test_equals_timms_evaluation_transform(
    size: tuple[int, int], crop_pct: float, interpolation: str
) -> None:
    from timm.data import create_transform

    spec = InputSpec(size=(96, 96), crop_pct=crop_pct, interpolation=interpolation)
    image = _picture(*size)
    theirs = create_transform(
        (3, 96, 96), interpolation=interpolation, crop_pct=crop_pct, mean=spec.mean, std=spec.std
    )(image)
    torch.testing.assert_close(build_transform(spec)(image), theirs, atol=1e-6, rtol=0)


def test_non_square_inputs_are_covered_and_cropped() -> None:
    spec = InputSpec(size=(64, 96), crop_pct=0.9)
    for size in ((50, 300), (300, 50), (96, 64)):
        assert preprocess(_picture(*size), spec).shape == (3, 64, 96)


@pytest.mark.parametrize("size", [(50, 300), (300, 50), (96, 64), (97, 61), (40, 40)])
def test_non_square_inputs_equal_timms(size: tuple[int, int]) -> None:
    from timm.data import create_transform

    spec = InputSpec(size=(64, 96), crop_pct=0.9)
    image = _picture(*size)
    theirs = create_transform(
        (3, 64, 96), interpolation="bicubic", crop_pct=0.9, mean=spec.mean, std=spec.std
    )(image)
    torch.testing.assert_close(build_transform(spec)(image), theirs, atol=1e-6, rtol=0)


def test_paths_arrays_and_tensors_agree(tmp_path: Path) -> None:
    image = _picture(40, 30)
    image.save(tmp_path / "a.png")
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), array, tensor):
        assert np.array_equal(np.asarray(read_image(source)), array)


def test_grey_palette_alpha_and_16_bit_become_rgb() -> None:
    grey = Image.fromarray(np.full((4, 4), 100, np.uint8))
    assert np.asarray(read_image(grey))[0, 0].tolist() == [100, 100, 100]
    one_channel = np.arange(6, dtype=np.uint8).reshape(3, 2, 1)
    assert np.array_equal(np.asarray(read_image(one_channel)), one_channel.repeat(3, 2))
    deep = Image.fromarray(np.full((4, 4), 100 * 257, np.uint16))
    assert np.asarray(read_image(deep))[0, 0].tolist() == [100, 100, 100]
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert np.asarray(read_image(clear))[0, 0].tolist() == [255, 255, 255]
    assert read_image(Image.new("P", (4, 4))).mode == "RGB"
    assert read_image(Image.new("CMYK", (4, 4))).mode == "RGB"


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (10, 20)


def test_one_channel_specs_take_grey() -> None:
    spec = InputSpec(size=(8, 8), in_chans=1, mean=(0.5,), std=(0.5,), crop_pct=1.0)
    assert preprocess(_picture(8, 8), spec).shape == (1, 8, 8)


def _file(tmp_path: Path, name: str, data: bytes) -> str:
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="empty file") as caught:
        read_image(_file(tmp_path, "a.png", b""))
    assert caught.value.code == "empty_image"


def test_something_else_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not an image") as caught:
        read_image(_file(tmp_path, "a.png", b"hello"))
    assert caught.value.code == "not_an_image"


def test_a_truncated_image_is_damaged(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    _picture(60, 60).save(buffer, "PNG")
    data = buffer.getvalue()
    with pytest.raises(ImageError, match="damaged"):
        read_image(_file(tmp_path, "a.png", data[: len(data) // 2]))


def test_a_missing_image_is_named() -> None:
    with pytest.raises(NotFoundError, match="No such file"):
        read_image("nowhere.png")


@pytest.mark.parametrize("shape", [(4, 4, 2), (4, 4, 4), (4,), (1, 4, 4, 3), (0, 4, 3)])
def test_wrong_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="got shape") as caught:
        read_image(np.zeros(shape, np.uint8))
    assert caught.value.code == "channels"


def test_float_arrays_are_refused() -> None:
    with pytest.raises(ImageError, match="float32") as caught:
        read_image(np.zeros((4, 4, 3), np.float32))
    assert caught.value.code == "dtype"


def test_tensors_are_channels_first() -> None:
    with pytest.raises(ImageError, match=r"\(3, H, W\)"):
        read_image(torch.zeros(4, 4, 3, dtype=torch.uint8))


def test_other_objects_are_refused() -> None:
    with pytest.raises(ImageError, match="got int"):
        read_image(3)


def test_folders_expand_sorted(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [Path(p).name for p in list_sources([str(tmp_path)])[0]] == ["a.jpg", "b.png"]


def test_folders_without_images_and_missing_paths_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no images"):
        list_sources([str(tmp_path)])
    with pytest.raises(NotFoundError, match="no such file"):
        list_sources([str(tmp_path / "x")])
