"""Files in a directory with a manifest.json are compared with it, however they are named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from zoo.errors import IntegrityError, NotFoundError, ZooError
from zoo.files.listed import read_listed
from zoo.files.manifest import make_manifest, parse_manifest, seal

from ..contract.reading import sources

FILES = {"config.json": b'{"architecture": "x"}', "onnx/model.onnx": b"graph", "labels.txt": b"a"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    home = tmp_path / "run"
    for name, data in FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(data)
    (home / "manifest.json").write_text(make_manifest(home, FILES, "x", "1.0.0", 1).to_json())
    return home


def test_a_file_that_is_as_listed_is_read(directory: Path) -> None:
    assert {name: read_listed(directory / name) for name in FILES} == FILES


def test_a_changed_file_is_found_by_every_name(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "onnx" / "model.onnx").write_bytes(b"gravh")
    (tmp_path / "link.onnx").symlink_to(directory / "onnx" / "model.onnx")
    (tmp_path / "folder").symlink_to(directory / "onnx")
    (tmp_path / "home").symlink_to(directory)
    (tmp_path / "stored").mkdir()
    named = [
        directory / "onnx" / "model.onnx", tmp_path / "link.onnx", tmp_path / "folder/model.onnx",
        tmp_path / "home/onnx/model.onnx", tmp_path / "folder/../onnx/model.onnx",
        directory / "onnx/../onnx/model.onnx", "run/onnx/model.onnx", "./run//onnx/model.onnx",
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for path in named:
        with pytest.raises(IntegrityError, match=r"onnx/model\.onnx has SHA-256"):
            read_listed(path)
    monkeypatch.chdir(directory / "onnx")
    for path in ("model.onnx", "../onnx/model.onnx"):
        with pytest.raises(IntegrityError):
            read_listed(path)
    descriptor = os.open("model.onnx", os.O_RDONLY)
    with pytest.raises(IntegrityError):
        read_listed(f"/dev/fd/{descriptor}")
    os.close(descriptor)


def test_a_file_that_is_a_link_into_a_store_is_compared(directory: Path, tmp_path: Path) -> None:
    """As in the Hub's cache: snapshots hold links to blobs."""
    blob = shutil.move(directory / "onnx" / "model.onnx", tmp_path / "blob")
    (directory / "onnx" / "model.onnx").symlink_to(blob)
    assert read_listed(directory / "onnx" / "model.onnx") == b"graph"
    Path(blob).write_bytes(b"gravh")
    with pytest.raises(IntegrityError):
        read_listed(directory / "onnx" / "model.onnx")


@pytest.mark.parametrize("name", ["model.pt2", "onnx/other.onnx", "test_data_set_0/input_0.pb"])
def test_a_file_that_was_put_there_is_refused(directory: Path, name: str) -> None:
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).write_bytes(b"x")
    with pytest.raises(IntegrityError, match=f"{name} is not listed") as caught:
        read_listed(directory / name)
    assert caught.value.code == "unlisted"


def test_folders_that_are_not_the_directorys_own_are_free(directory: Path) -> None:
    (directory / "notes").mkdir()
    (directory / "notes" / "x.onnx").write_bytes(b"x")
    (directory / ".convattn-1-00000000.onnx").write_bytes(b"being written")
    assert read_listed(directory / "notes" / "x.onnx") == b"x"
    assert read_listed(directory / ".convattn-1-00000000.onnx") == b"being written"


@pytest.mark.parametrize(
    ("text", "free"),
    [
        ('{"name": "a page", "icons": []}', True),
        ("[]", True),
        ('{"format_version": 1', False),
        ('{"format_version": 1, "files": []}', False),
        ("\x00", False),
    ],
)
def test_another_programs_manifest_says_nothing(directory: Path, text: str, free: bool) -> None:
    (directory / "manifest.json").write_text(text)
    if free:
        assert read_listed(directory / "labels.txt") == b"a"
    else:
        with pytest.raises(IntegrityError):
            read_listed(directory / "labels.txt")


@pytest.mark.parametrize(
    ("key", "value"), [("name", "y"), ("version", "2.0.0"), ("architecture_version", 2)]
)
def test_the_manifest_and_the_config_name_one_model(
    directory: Path, key: str, value: object
) -> None:
    config = b'{"convattn": {"architecture": "x", "version": "1.0.0", "architecture_version": 1}}'
    (directory / "config.json").write_bytes(config)
    good = make_manifest(directory, FILES, "x", "1.0.0", 1)
    (directory / "manifest.json").write_text(good.to_json())
    assert read_listed(directory / "labels.txt") == b"a"
    changed = {"name": "x", "version": "1.0.0", "architecture_version": 1, key: value}
    other = make_manifest(directory, FILES, **changed)
    (directory / "manifest.json").write_text(other.to_json())
    with pytest.raises(IntegrityError, match=r"config\.json says"):
        read_listed(directory / "labels.txt")


def test_every_flipped_bit_of_a_manifest_is_found(directory: Path) -> None:
    data = (directory / "manifest.json").read_bytes()
    for place in range(8 * len(data)):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(ZooError) as caught:
            parse_manifest(bytes(changed), "manifest.json")
        assert caught.value.code in ("manifest", "manifest_version"), place


def test_a_manifest_names_its_own_digest() -> None:
    text = seal({"format_version": 1, "name": "é", "version": "", "architecture_version": 1,
                 "files": []})  # fmt: skip
    assert parse_manifest(text.encode(), "m").name == "é"
    assert seal({"a": 1, "content_sha256": "old"}) == seal({"a": 1})


def test_an_expected_digest_is_compared_without_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(IntegrityError, match="expected 00"):
        read_listed(tmp_path / "x", sha256="00")
    with pytest.raises(NotFoundError):
        read_listed(tmp_path / "y")


# What reads files that no manifest of ours lists, and why it may
FREE = {
    "zoo/files/": "the mechanism, the caches and pins, which have digests of their own",
    "zoo/data/": "images and data sets",
    "zoo/evaluation/batch/": "lists of images, and rows, which have digests of their own",
    "zoo/catalog/": "the user's catalogue",
    "zoo/training/checkpoint.py": "an unfinished run",
    "zoo/training/sweep.py": "a grid",
    "zoo/analysis/sweep.py": "the table of a sweep",
    "zoo/analysis/landscape.py": "the log of an unfinished landscape",
    "zoo/cli/_options.py": "the user's list of labels",
    "export/cards/": "measured files",
    "export/publishing/gallery/card.py": "a model card: text, shown as text",
    "export/publishing/gallery/runtime.py": "a tarball",
}


def test_every_reader_of_model_files_compares_them() -> None:
    found = [
        path
        for path, source in sources("zoo/", "export/")
        if "read_regular_file(" in source and not path.startswith(tuple(FREE))
    ]
    assert not found
