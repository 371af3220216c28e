"""What is removed from the cache: one commit, or a repository, and nothing besides."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from zoo.errors import ConfigError, UnknownModelError
from zoo.files import cache
from zoo.files.manifest import make_manifest

OLD, NEW = "1" * 40, "2" * 40
REPO = "org/wide"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits in the Hub client's cache that share their config."""
    monkeypatch.setenv("CONVATTN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--org--wide"
    for commit, weights in ((OLD, b"old weights"), (NEW, b"newer weights")):
        snapshot, staged = folder / "snapshots" / commit, tmp_path / commit
        files = {"config.json": b"{}", "model.safetensors": weights}
        for path in (snapshot, staged, folder / "blobs", folder / "refs"):
            path.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (staged / name).write_bytes(data)
        manifest = make_manifest(staged, list(files), "wide", "1.0.0", 1)
        for name, data in {**files, "manifest.json": manifest.to_json().encode()}.items():
            blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
            blob.write_bytes(data)
            (snapshot / name).symlink_to(blob)
    (folder / "refs" / "main").write_text(NEW)
    return folder


def _left(folder: Path, commit: str) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (folder / "snapshots" / commit).glob("*")}


@pytest.mark.parametrize("revision", [NEW, NEW[:12], "main"])
def test_one_commit_is_removed_and_the_other_stays_whole(repository: Path, revision: str) -> None:
    before, gone = _left(repository, OLD), _left(repository, NEW)
    freed = cache.remove_cached(f"{REPO}@{revision}")
    assert freed == len(gone["model.safetensors"]) + len(gone["manifest.json"])  # one is shared
    assert _left(repository, OLD) == before
    assert _left(repository, NEW) == {}


@pytest.mark.parametrize("revision", ["3" * 40, "v9.9.9", "../refs"])
def test_a_commit_that_is_not_cached_removes_nothing(repository: Path, revision: str) -> None:
    with pytest.raises((UnknownModelError, ConfigError)):
        cache.remove_cached(f"hf-hub:{REPO}@{revision}")
    assert set(_left(repository, OLD)) == set(_left(repository, NEW)) != set()


def test_a_repository_is_removed_whole(repository: Path) -> None:
    cache.remove_cached(REPO)
    assert not repository.exists()
