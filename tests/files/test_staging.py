"""A directory appears as a whole or not at all, and what killed writers left is swept."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from zoo.errors import ConfigError, IntegrityError, NetworkError, ResourceError
from zoo.files import places, staging, strays
from zoo.files.local import require_space, write_bytes
from zoo.files.manifest import make_manifest
from zoo.files.staging import require_free, staged_directory

GONE = 2**22 + 1  # no process has this number


def _write(folder: Path, text: str, extra: tuple[str, ...] = ()) -> None:
    names = ("config.json", "onnx/model.onnx", *extra)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"{text} {name}")
    manifest = make_manifest(folder, names, "m", "1.0.0", 1)
    (folder / "manifest.json").write_text(manifest.to_json())


def _finished(out: Path, text: str = "old", extra: tuple[str, ...] = ()) -> Path:
    with staged_directory(out) as folder:
        _write(folder, text, extra)
    return out


def _replace_and_stop(out: Path) -> None:
    with staged_directory(out, replace=True) as folder:
        _write(folder, "new")
        raise KeyboardInterrupt


def _tree(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): p.read_text()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def _stray(folder: Path, hours: float, pid: int = GONE, suffix: str = "") -> Path:
    path = folder / f".convattn-{pid}-0123abcd{suffix}"
    path.mkdir()
    (path / "part.bin").write_bytes(b"half")
    then = time.time() - 3600 * hours
    for place in (path / "part.bin", path):
        os.utime(place, (then, then))
    return path


def test_a_new_directory_appears_only_when_the_block_has_ended(tmp_path):
    with staged_directory(tmp_path / "a" / "out") as folder:
        _write(folder, "new")
        assert not (tmp_path / "a" / "out").exists()
    assert (tmp_path / "a" / "out" / "manifest.json").is_file()
    assert os.listdir(tmp_path / "a") == ["out"]


def test_a_failure_leaves_the_old_directory_and_nothing_else(tmp_path):
    out = _finished(tmp_path / "out")
    before = _tree(out)
    with pytest.raises(KeyboardInterrupt):
        _replace_and_stop(out)
    assert _tree(out) == before
    assert os.listdir(tmp_path) == ["out"]


def test_a_replaced_directory_holds_the_new_files_alone(tmp_path):
    out = _finished(tmp_path / "out", extra=("onnx/model_int8.onnx",))
    with staged_directory(out, replace=True) as folder:
        _write(folder, "new")
    assert sorted(_tree(out)) == ["config.json", "manifest.json", "onnx/model.onnx"]
    assert (out / "config.json").read_text() == "new config.json"


def test_files_that_no_manifest_lists_are_kept(tmp_path):
    out = _finished(tmp_path / "out")
    (out / "onnx" / "notes.txt").write_text("mine")
    (out / "cache").mkdir()
    (out / "cache" / "checkpoint").write_text("ours")
    with staged_directory(out, replace=True, drop=("cache/checkpoint",)) as folder:
        _write(folder, "new")
    assert (out / "onnx" / "notes.txt").read_text() == "mine"
    assert not (out / "cache" / "checkpoint").exists()


def test_what_is_carried_never_replaces_what_is_new(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, names in ((old, "ab"), (new, "a")):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(f"{folder.name} {name}")
    staging.carry(old, new, ["a", "b", "nowhere"])
    assert _tree(new) == {"a": "new a", "b": "old b"}


def test_every_file_and_folder_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    flushed, flush = set(), os.fsync

    def watched(descriptor: int) -> None:
        flushed.add(os.fstat(descriptor).st_ino)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    with staged_directory(tmp_path / "out") as folder:
        (folder / "inside").mkdir()
        (folder / "inside" / "file").write_text("x")
        (folder / "link").symlink_to("nowhere")
    places = [tmp_path / "out" / name for name in (".", "inside", "inside/file")]
    assert {place.stat().st_ino for place in (tmp_path, *places)} <= flushed


def test_nothing_is_replaced_unless_it_is_asked_for(tmp_path):
    out = _finished(tmp_path / "out")
    before = _tree(out)
    with pytest.raises(ResourceError), staged_directory(out) as folder:
        _write(folder, "new")
    assert _tree(out) == before


@pytest.mark.parametrize("exchange", ["missing", "refused"])
def test_without_an_exchange_two_renames_do(tmp_path, monkeypatch, exchange):
    out = _finished(tmp_path / "out")
    if exchange == "missing":
        monkeypatch.setattr(staging, "exchange", lambda *_: False)
    else:
        monkeypatch.setattr("sys.platform", "darwin")
    with staged_directory(out, replace=True) as folder:
        _write(folder, "new")
    assert (out / "config.json").read_text() == "new config.json"
    assert os.listdir(tmp_path) == ["out"]


def test_a_writer_killed_between_two_renames_is_mended_by_the_next(tmp_path):
    out = _finished(tmp_path / "out")
    before = _tree(out)
    os.rename(out, tmp_path / f".convattn-{GONE}-0123abcd-was-out")
    with pytest.raises(ResourceError), staged_directory(out) as folder:
        _write(folder, "new")
    assert _tree(out) == before


def test_strays_are_swept_when_they_are_old_and_their_process_is_gone(tmp_path):
    old = _stray(tmp_path, hours=2)
    young = _stray(tmp_path, hours=0.5, pid=GONE + 1)
    busy = _stray(tmp_path, hours=2, pid=os.getpid())
    _finished(tmp_path / "out")
    assert not old.exists()
    assert young.exists()
    assert busy.exists()


def test_a_stray_that_somebody_still_writes_to_is_left(tmp_path):
    stray = _stray(tmp_path, hours=2)
    os.utime(stray / "part.bin")
    assert strays.sweep(tmp_path) == 0
    assert stray.exists()


def test_writing_a_file_sweeps_its_folder(tmp_path):
    stray = _stray(tmp_path, hours=2)
    write_bytes(tmp_path / "pins.json", b"{}")
    assert not stray.exists()


def test_a_directory_that_keeps_its_place_is_filled(tmp_path, monkeypatch):
    out = _finished(tmp_path / "out", extra=("onnx/model_int8.onnx",))
    (out / "notes.txt").write_text("mine")
    number = out.stat().st_ino
    monkeypatch.chdir(out)
    with staged_directory(Path("."), replace=True) as folder:
        _write(folder, "new")
    assert out.stat().st_ino == number  # the shell still stands in it
    assert (out / "config.json").read_text() == "new config.json"
    assert sorted(os.listdir(out)) == ["config.json", "manifest.json", "notes.txt", "onnx"]
    assert os.listdir(out / "onnx") == ["model.onnx"]


def test_a_link_to_a_directory_stays_one(tmp_path):
    out = _finished(tmp_path / "real")
    (tmp_path / "link").symlink_to(out)
    with staged_directory(tmp_path / "link", replace=True) as folder:
        _write(folder, "new")
    assert (tmp_path / "link").is_symlink()
    assert (out / "config.json").read_text() == "new config.json"


@pytest.mark.parametrize(
    ("prepare", "code"),
    [
        (lambda out: out.write_text("a file"), "out"),
        (lambda out: (out.mkdir(), (out / "precious.txt").write_text("x")), "out"),
        (_finished, "finished"),
    ],
)
def test_what_is_there_is_named_before_any_work(tmp_path, prepare, code):
    prepare(tmp_path / "out")
    with pytest.raises(ConfigError) as caught:
        require_free(tmp_path / "out")
    assert caught.value.code == code
    assert len(str(caught.value)) < 300


def test_only_a_finished_directory_may_be_overwritten(tmp_path):
    require_free(_finished(tmp_path / "out"), overwrite=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "config.json").write_text("precious")
    with pytest.raises(ConfigError) as caught:
        require_free(tmp_path / "photos", overwrite=True)
    assert caught.value.code == "out"


def test_an_empty_or_missing_directory_is_free(tmp_path):
    require_free(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    _stray(tmp_path / "empty", hours=0)
    require_free(tmp_path / "empty")
    _finished(tmp_path / "empty")
    assert (tmp_path / "empty" / "manifest.json").is_file()


def test_a_directory_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path):
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(ResourceError, match="Not a directory"):
        staging._holds_something(tmp_path / "file")
    assert staging._holds_something(tmp_path)
    assert not staging._holds_something(tmp_path / "missing")


def test_what_just_fits_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    require_space(tmp_path / "not" / "yet", 1000, "a file", "set HF_HOME")
    with pytest.raises(ResourceError, match="make room or set HF_HOME") as caught:
        require_space(tmp_path, 1001, "a file", "set HF_HOME")
    assert caught.value.code == "disk_full"


@pytest.mark.parametrize(("code", "missing"), [("no_file", True), ("offline", True), ("", False)])
def test_only_a_file_that_is_not_there_is_optional(monkeypatch, code, missing):
    def answer(*_):
        raise NetworkError("no answer", **({"code": code} if code else {}))

    monkeypatch.setattr(places, "fetch_file", answer)
    if missing:
        assert places.fetch_optional("a/b", "extra.json", "c" * 40) is None
        with pytest.raises(IntegrityError, match=r"a/b lacks extra\.json"):
            places.fetch_optional("a/b", "extra.json", "c" * 40, "d" * 64)
    else:
        with pytest.raises(NetworkError, match="no answer"):
            places.fetch_optional("a/b", "extra.json", "c" * 40)
