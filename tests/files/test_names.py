"""Names that others choose never become a path outside of their folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from zoo.catalog.names import check_names, is_portable
from zoo.catalog.registry import weights_from_dict
from zoo.errors import ConfigError, NetworkError, ZooError
from zoo.files import cache, download, fetch
from zoo.files.mirror import Mirror, Ref
from zoo.files.pins import Pin

REPOS = (
    *(
        "..",
        "../..",
        "../../x",
        "a/..",
        "./a",
        "a/b/c",
        "/a/b",
        "a//b",
        "a",
        "",
        "a/",
        "/",
        "a/b\n",
    ),
    *("a/b\0", "a\\b/c", "C:/b", "a/.git", "a/-rf", "a/b..c", "a/b c", "a/bé", "a/\u202eb"),
    *("a/" + "b" * 97, "a/b--c", "a/b.", "~/b", "a/b?x=1", "a/b#c", "a/%2e%2e"),
)
FILES = (
    *("../../etc/passwd", "/etc/passwd", "a/../b", ".git/config", "a//b", "a/", "con", "aux.txt"),
    *("a\\b", "C:x", "x\n", "x\0", "~/.bashrc", "-rf", "x.", "é", "a" * 201),
)
REVISIONS = (
    "..",
    "../x",
    "a..b",
    "-x",
    "/x",
    "x/",
    "x\n",
    "x\0",
    "a b",
    "a//b",
    "x" * 201,
    "~",
    "@{0}",
)


@pytest.mark.parametrize("repo", REPOS)
def test_no_path_is_made_of_an_impossible_repository(
    repo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVATTN_HOME", str(tmp_path / "deep/er/home"))
    monkeypatch.setenv("CONVATTN_MIRROR", "http://127.0.0.1:1/files")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    commit = "0" * 40
    attempts: tuple[tuple[Any, ...], ...] = (
        (download.fetch_file, repo, "config.json"),
        (download.place_of, repo, "config.json", commit),
        (download.fetch_data_file, repo, "x"),
        (fetch.fetch_model, f"hf-hub:{repo}", tmp_path / "to"),
        (fetch.pin_on_first_use, repo),
        (Mirror("http://127.0.0.1:1").resolve, repo, "main"),
        (Mirror("http://127.0.0.1:1").locate, repo, "config.json", commit),
        (Ref, repo, commit, {}),
        (cache.remove_cached, f"hf-hub:{repo}/"),
    )
    for function, *arguments in attempts:
        with pytest.raises((ConfigError, LookupError)):
            function(*arguments)
    with pytest.raises(ConfigError):
        Pin(repo=repo, file="x", revision=commit, sha256="0" * 64, size_bytes=1)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("file", FILES)
def test_no_path_is_made_of_an_impossible_file(file: str, tmp_path: Path) -> None:
    record = {"model": "convit_nano", "tag": "x", "version": "1.0.0", "sha256": "0" * 64}
    bundled = {**record, "size_bytes": 1, "bundled": file}
    on_hub = {**record, "size_bytes": 1, "repo": "a/b", "revision": "0" * 40, "file": file}
    for values in (bundled, on_hub):
        with pytest.raises(ConfigError):
            weights_from_dict(values)
    with pytest.raises(ConfigError):
        download.fetch_file("a/b", file)
    with pytest.raises(ConfigError):
        Mirror(str(tmp_path)).locate("a/b", file, "0" * 40)
    with pytest.raises(ConfigError):
        Ref("a/b", "0" * 40, {file: (1, "0" * 64)})
    assert not is_portable(file)


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_impossible_revision_is_refused(revision: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a revision"):
        download.fetch_file("a/b", "config.json", revision)


def test_usual_names_pass() -> None:
    for repo in ("timm/convit_base.fb_in1k", "org/name", "0x/A-b_c.d"):
        check_names(repo, "onnx/model.onnx", "refs/pr/1")
    for revision in ("main", "v1.0.0", "a" * 40, "feature/x+y"):
        check_names("a/b", ".eval_results/x.yaml", revision)


def test_a_repository_outside_of_the_mirror_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, the reference's own dots led out of the folder of kept files."""
    monkeypatch.setenv("CONVATTN_MIRROR", "http://127.0.0.1:1")
    monkeypatch.setenv("CONVATTN_HOME", str(tmp_path / "home"))
    with pytest.raises(ZooError) as caught:
        fetch.fetch_model("hf-hub:../..")
    assert not isinstance(caught.value, NetworkError)
    assert os.listdir(tmp_path) == []
