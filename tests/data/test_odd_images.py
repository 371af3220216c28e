"""Odd pictures are read right or refused by name, through every door; damage has one type."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, UnidentifiedImageError

from zoo.catalog.weights_records import InputSpec
from zoo.cli import main
from zoo.data.image_listing import list_folder, list_sources
from zoo.data.image_reading import FREE_PIXELS, image_suffixes
from zoo.data.opening import open_dataset
from zoo.data.preprocessing import preprocess, read_image
from zoo.errors import DatasetError, ImageError, NotFoundError, ZooError
from zoo.evaluation.evaluate import evaluate

from .odd_images import HEIGHT, WIDTH, Odd, odd_images, picture, png, tiff

CASES = {odd.name: odd for odd in odd_images()}
SPEC = InputSpec(size=(16, 16), crop_pct=1.0, interpolation="bilinear")


def _check(odd: Odd, read: object) -> None:
    """The pixels of the plain twin, or a refusal by name."""
    if odd.plain is None:
        with pytest.raises((ImageError, UnidentifiedImageError)):
            read()
        return
    found = np.asarray(read()).astype(int)
    assert found.shape == odd.plain.shape
    assert abs(found - odd.plain.astype(int)).mean() <= odd.tolerance


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 90
    assert len({odd.data for odd in CASES.values()}) >= 90


@pytest.mark.parametrize("name", CASES)
def test_an_odd_image_is_its_plain_twin_by_path_and_by_object(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(CASES[name].data)
    _check(CASES[name], lambda: read_image(path))

    def opened(load: bool) -> Image.Image:
        with Image.open(path) as image:
            if load:
                image.load()
            return read_image(image)

    _check(CASES[name], lambda: opened(load=False))
    _check(CASES[name], lambda: opened(load=True))


def test_reading_an_image_leaves_the_callers_object_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(CASES["grey_4_bits_clear.png"].data)
    with Image.open(tmp_path / "a.png") as image:
        read_image(image)
    assert image.info["transparency"] == 1


def test_grey_of_16_bits_ends_at_white_exactly() -> None:
    deep = Image.fromarray(np.array([[65535, 32896, 257, 0]], np.uint16))
    assert np.asarray(read_image(deep))[0, :, 0].tolist() == [255, 128, 1, 0]


def test_grey_of_16_bits_in_32_and_of_12_bits_ends_at_white_exactly() -> None:
    values = struct.pack(">4H", 65535, 65407, 128, 0)
    with Image.open(io.BytesIO(b"P5 4 1 65535\n" + values)) as image:
        assert np.asarray(read_image(image))[0, :, 0].tolist() == [255, 255, 0, 0]
    packed = bytes.fromhex("fff800 3e8000")  # 4095, 2048, 1000, 0
    data = tiff(np.frombuffer(packed, np.uint8)[None])
    for tag, old, new in ((256, 6, 4), (258, 8, 12)):
        data = data.replace(
            struct.pack("<HHII", tag, 3, 1, old), struct.pack("<HHII", tag, 3, 1, new)
        )
    with Image.open(io.BytesIO(data)) as image:
        assert np.asarray(read_image(image))[0, :, 0].tolist() == [255, 128, 62, 0]


def test_a_clear_grey_of_4_bits_is_found_among_levels_of_2_bits() -> None:
    rows = [bytes([0x05, 0xAF] * (WIDTH // 4))] * HEIGHT
    data = png(4, 0, rows, (b"tRNS", struct.pack(">H", 5)))
    with Image.open(io.BytesIO(data)) as image:
        assert np.asarray(read_image(image))[0, :4, 0].tolist() == [0, 255, 170, 255]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of odd images that can be read, three to a part, and one of each that cannot."""
    good = [odd for odd in CASES.values() if odd.plain is not None]
    for number, odd in enumerate(good):
        place = tmp_path / "photos" / ("train", "validation")[number % 2] / f"c{number // 2 % 2}"
        place.mkdir(parents=True, exist_ok=True)
        (place / odd.name).write_bytes(odd.data)
    return tmp_path / "photos"


def test_a_data_set_of_odd_images_gives_their_plain_twins(folder: Path) -> None:
    seen = 0
    for part in ("train", "validation"):
        data = open_dataset(str(folder), part)
        for index in range(len(data)):
            odd = CASES[Path(data.describe(index)).name]
            _check(odd, lambda data=data, index=index: data[index][0])
            seen += 1
    assert seen == sum(odd.plain is not None for odd in CASES.values())


def test_an_evaluation_sees_the_plain_twins(folder: Path) -> None:
    data = open_dataset(str(folder), "validation")
    means = []

    def logits(images: list[np.ndarray]) -> np.ndarray:
        means.extend(image.mean() for image in images)
        return np.zeros((len(images), 2), np.float32)

    evaluate(logits, data, resamples=0)
    names = [Path(data.describe(index)).name for index in range(len(data))]
    expected = [CASES[name].plain.mean() for name in names]
    np.testing.assert_allclose(means, expected, atol=3)


def test_predict_and_embed_take_odd_images_and_skip_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("deep.png", "turned_6.png", "lab.tif", "float_nan.tif"):
        (tmp_path / name).write_bytes(CASES[name].data)
    command = ["predict", "convit_nano", str(tmp_path), "--on-unreadable"]
    assert _run(*command, "stop") == 3
    assert "float_nan.tif" in capsys.readouterr().err
    assert _run(*command, "skip") == 0
    printed = capsys.readouterr()
    assert printed.out.count("%") == 9
    assert "1 image" in printed.err
    assert "float_nan.tif" in printed.err
    command = ["embed", "convit_nano", "--data", str(tmp_path), "--out", str(tmp_path / "f.npz")]
    assert _run(*command) == 3
    assert _run(*command, "--on-unreadable", "skip") == 0
    with np.load(tmp_path / "f.npz") as file:
        assert file["files"].tolist() == ["deep.png", "lab.tif", "turned_6.png"]


def _run(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*args])
    return int(caught.value.code or 0)


def test_a_strip_is_cropped_without_being_scaled_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strip = np.zeros((2, 40_000, 3), np.uint8)
    strip[:, 19_990:20_010] = np.arange(20, dtype=np.uint8)[None, :, None] * 12
    spec = InputSpec(size=(96, 96), crop_pct=0.875, interpolation="bicubic")
    middle = strip[:, 19_950:20_050]
    assert 109 * 109 * 20_000 > FREE_PIXELS
    made = []
    resize = Image.Image.resize

    def watched(image: Image.Image, size: tuple[int, int], *args: Any, **kw: Any) -> Image.Image:
        made.append(size)
        return resize(image, size, *args, **kw)

    monkeypatch.setattr(Image.Image, "resize", watched)
    for long, short in ((strip, middle), (strip.swapaxes(0, 1), middle.swapaxes(0, 1))):
        np.testing.assert_allclose(preprocess(long, spec), preprocess(short, spec), atol=0.02)
    assert max(width * height for width, height in made) <= FREE_PIXELS


def _declared(width: int, height: int) -> bytes:
    """A black and white PNG that declares a size and holds almost nothing."""
    from .odd_images import png

    data = bytearray(png(1, 0, [b"\0"]))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("size", [(170_000_000, 1), (13_000, 13_000), (60_000, 60_000)])
def test_a_bomb_is_refused_by_name_before_it_is_decoded(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import ImageFile

    (tmp_path / "bomb.png").write_bytes(_declared(*size))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(ImageError, match=r"bomb\.png") as caught:
            read_image(tmp_path / "bomb.png")
    assert caught.value.code == "too_large"


def test_the_command_says_in_its_own_words_that_an_image_is_too_large(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bomb.png").write_bytes(_declared(13_000, 13_000))
    assert _run("predict", "convit_nano", str(tmp_path / "bomb.png")) == 3
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "13000 x 13000 pixels in 67 bytes" in said


def test_whatever_a_decoder_raises_is_a_damaged_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import PngImagePlugin

    (tmp_path / "a.png").write_bytes(CASES["rgb.png"].data)
    for error in (RuntimeError("planes"), NotImplementedError(), KeyError(7), RecursionError()):

        def load(self: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
        with pytest.raises(ImageError, match=r"a\.png' is damaged") as caught:
            read_image(tmp_path / "a.png")
        assert caught.value.code == "damaged_image"


def _damage(data: bytes, generator: np.random.Generator) -> bytes:
    """Cut, flip, repeat or drop something."""
    found = bytearray(data)
    for _ in range(generator.integers(1, 6)):
        place = int(generator.integers(len(found)))
        kind = generator.integers(5)
        if kind == 0:
            found[place] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            found[place : place + 4] = generator.integers(0, 256, 4, dtype=np.uint8).tobytes()
        elif kind == 2:
            found[place : place + 4] = b"\xff\xff\xff\xff"
        elif kind == 3:
            del found[place : place + int(generator.integers(1, 20))]
        else:
            found = found[: max(place, 20)]
    return bytes(found)


def _survives(data: bytes, path: Path) -> bool:
    """Whether the file could be read; fails for an error without a type of ours."""
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            preprocess(path, SPEC)
        except ZooError:
            return False
    return True


@pytest.mark.parametrize("count", [150, pytest.param(3000, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_refused_with_a_type(
    tmp_path: Path, count: int, record_property: Callable[[str, object], None]
) -> None:
    generator = np.random.default_rng(count)
    cases = list(CASES.values())
    read = sum(
        _survives(_damage(cases[n % len(cases)].data, generator), tmp_path / "a.img")
        for n in range(count)
    )
    record_property("inputs", count)
    record_property("read", read)
    assert 0 < read < count


def test_the_images_of_a_folder_are_what_a_user_sees(tmp_path: Path) -> None:
    for name in (
        *("b.png", "a.JFIF", "deep/c.avif", "deep/er/d.tif", "notes.txt", "._b.png", ".hidden.png"),
        *(".thumbs/b.png", "__MACOSX/b.png", "@eaDir/b.png", "deep/clip.mp4"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    found = list_folder(tmp_path)
    assert found.names == ("a.JFIF", "b.png", "deep/c.avif", "deep/er/d.tif")
    assert found.ignored == ("deep/clip.mp4", "notes.txt")
    assert found.nested == ("deep", "deep/er")
    assert "2 folders (deep, deep/er)" in found.remark()
    assert "2 files (deep/clip.mp4, notes.txt)" in found.remark()


def test_files_stay_and_folders_become_their_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    paths, remarks = list_sources([str(tmp_path), "README.md"])
    assert paths == [str(tmp_path / "a.png"), "README.md"]
    assert remarks == []
    with pytest.raises(NotFoundError):
        list_sources([str(tmp_path / "none")])


def test_no_suffix_hands_a_file_to_another_program(tmp_path: Path) -> None:
    assert {".png", ".jfif", ".avif", ".webp", ".jp2"} <= image_suffixes()
    assert not {".eps", ".ps", ".wmf", ".emf", ".pdf", ".h5", ".mpg"} & image_suffixes()
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    with pytest.raises(ImageError):
        read_image(_written(tmp_path / "a.eps", postscript))
    with pytest.raises(ImageError) as caught:
        read_image(_written(tmp_path / "a.png", postscript))
    assert caught.value.code == "not_an_image"


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_class_without_training_images_is_refused(tmp_path: Path) -> None:
    for place in ("train/a", "train/b", "val/a", "val/c"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(picture()).save(tmp_path / place / "1.png")
    with pytest.raises(DatasetError, match="'c'") as caught:
        open_dataset(str(tmp_path), "validation")
    assert caught.value.code == "empty_class"


def test_tensors_of_an_odd_image_are_finite() -> None:
    assert torch.isfinite(torch.from_numpy(preprocess(picture(), SPEC))).all()
