"""One changed bit in any file of an export stops every verb that uses the file, with exit 4."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import export
import zoo
from export.parity.report import read_report
from export.parity.stored import list_test_data, read_test_data
from zoo.cli import main
from zoo.errors import IntegrityError
from zoo.files.manifest import read_manifest

SCAN = str(Path(__file__).resolve().parents[2] / "examples" / "digit_7.png")


@pytest.fixture(scope="module")
def directory(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(exported, tmp_path_factory.mktemp("flips") / "export"))


@contextmanager
def flipped(path: Path, dice: random.Random) -> Iterator[None]:
    """A file with one bit changed, until the block ends."""
    data = path.read_bytes()
    changed = bytearray(data)
    place = dice.randrange(8 * len(data))
    changed[place // 8] ^= 1 << place % 8
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(data)


def status(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)


def _readers(home: Path, file: str) -> list[tuple[str, object]]:
    """How the library uses a file of an export."""
    path = home / file
    if file in ("config.json", "model.safetensors"):
        return [("model", lambda: zoo.create_model(str(home), pretrained=True))]
    if file.endswith((".onnx", ".pt")):
        return [
            ("predictor", lambda: export.open_predictor(path)),
            ("file", lambda: export.open_file(path)),
        ]
    if file == "parity.json":
        return [("report", lambda: read_report(path))]
    return [("vectors", lambda: read_test_data(home, path.parent.name))]


def test_a_flipped_bit_is_found_by_whatever_reads_the_file(directory: Path) -> None:
    dice = random.Random(14)
    files = read_manifest(directory).paths
    assert list_test_data(files)
    for file in files:
        for what, read in _readers(directory, file):
            for _ in range(20):
                with flipped(directory / file, dice), pytest.raises(IntegrityError) as caught:
                    read()
                assert caught.value.exit_code == 4, (file, what)
            read()


def test_a_flipped_bit_of_the_manifest_is_found_through_every_file(directory: Path) -> None:
    dice = random.Random(4)
    for file in read_manifest(directory).paths:
        for what, read in _readers(directory, file):
            with flipped(directory / "manifest.json", dice), pytest.raises(zoo.ZooError) as caught:
                read()
            assert caught.value.code in ("manifest", "manifest_version"), (file, what)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("onnx/model.onnx", ("predict", "{}/onnx/model.onnx", SCAN)),
        ("onnx/model.onnx", ("predict", "{}", SCAN, "--threads", "1")),
        ("onnx/model.onnx", ("evaluate", "{}/onnx/model.onnx", "--data", "digits")),
        ("onnx/model.onnx", ("verify", "{}/onnx/model.onnx")),
        ("config.json", ("predict", "{}", SCAN)),
        ("config.json", ("evaluate", "{}", "--data", "digits")),
        ("config.json", ("embed", "{}", "--data", "nowhere", "--out", "x.npz")),
        ("config.json", ("export", "{}", "--out", "other")),
        ("model.safetensors", ("predict", "{}", SCAN)),
        ("model.safetensors", ("bundle", "{}", "--out", "other")),
        ("model.safetensors", ("bench", "load", "{}")),
        ("model.pt", ("predict", "{}/model.pt", SCAN)),
        ("model.pt", ("bench", "model", "{}/model.pt")),
        ("parity.json", ("verify", "{}")),
        ("test_data_set_0/output_0.pb", ("verify", "{}")),
        ("manifest.json", ("predict", "{}/onnx/model.onnx", SCAN)),
        ("manifest.json", ("verify", "{}")),
    ],
)
def test_a_flipped_bit_stops_the_verb(
    directory: Path,
    file: str,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nowhere").mkdir()
    shutil.copy(SCAN, tmp_path / "nowhere")
    with flipped(directory / file, random.Random(7)):
        assert status(*(word.format(directory) for word in words)) == 4
    assert not (tmp_path / "other").exists()
