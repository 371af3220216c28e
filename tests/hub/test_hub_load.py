"""Loading what was published: by name and version, offline, from caches good and bad."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zoo.files.manifest import seal

from .client import (
    BOTH,
    FILE,
    LOAD,
    TOKEN,
    blobs,
    catalog,
    convattn,
    environment,
    publish,
    python,
    sha256,
)
from .server import HubServer, running


@pytest.mark.usefixtures("warm")
def test_both_versions_stay_loadable_and_the_newest_is_the_default(
    hub: HubServer, published: dict[str, dict[str, Any]], known: dict[str, str], home: Path
) -> None:
    before = len(hub.log)
    loaded = python(LOAD, home, hub.endpoint, BOTH, **known)
    digests = [published[v]["sha256"] for v in ("1.0.0", "1.1.0", "1.1.0")]
    assert [entry["sha256"] for entry in loaded.values()] == digests
    assert len(set(digests)) == 2
    assert hub.log[before:] == []  # pinned and cached: not one request


def test_offline_nothing_is_asked_and_what_is_missing_is_named(
    hub: HubServer, known: dict[str, str], home: Path, tmp_path: Path
) -> None:
    before = len(hub.log)
    loaded = python(LOAD, home, hub.endpoint, BOTH, HF_HUB_OFFLINE="1", **known)
    assert all("sha256" in entry for entry in loaded.values())
    empty = tmp_path / "empty"
    for arguments in (["--offline", "fetch"], ["fetch", "--offline"]):
        ran = convattn(empty, hub.endpoint, *arguments, "convit_nano.wide", "--json", **known)
        assert (ran.code, ran.json["error"]["code"]) == (5, "offline")
    assert hub.log[before:] == []


def test_a_corrupted_cache_is_found_and_healed_by_the_next_load(
    hub: HubServer, published: dict[str, dict[str, Any]], known: dict[str, str], home: Path
) -> None:
    digest = published["1.0.0"]["sha256"]
    blob = next(path for path in blobs(home, "org/wide") if path.name == digest)
    for damage in (lambda d: d[:-1] + bytes([d[-1] ^ 1]), lambda d: d[:-1]):
        blob.write_bytes(damage(blob.read_bytes()))
        found = convattn(home, hub.endpoint, "cache", "verify", "--json", **known)
        assert (found.code, found.json["error"]["code"]) == (4, "hash")
        assert "model.safetensors of org/wide" in found.err
        loaded = python(LOAD, home, hub.endpoint, BOTH[:1], **known)["old"]
        assert loaded["sha256"] == digest == sha256(blob.read_bytes())
    found = convattn(home, hub.endpoint, "cache", "verify", **known)
    assert (found.code, found.out) == (0, "2 files match their digests\n")


def test_the_cache_is_listed_and_removed_by_version_and_by_repository(
    hub: HubServer, published: dict[str, dict[str, Any]], known: dict[str, str], home: Path
) -> None:
    partial = home / "hf" / "hub" / "models--org--wide" / "blobs" / "ab.12345678.incomplete"
    partial.write_bytes(bytes(2_000_000))
    listed = convattn(home, hub.endpoint, "cache", "list", "--json", **known).json
    assert {entry["known_by"] for entry in listed} == {
        "convit_nano.wide@1.0.0", "convit_nano.wide@1.1.0",
    }  # fmt: skip
    assert {entry["digest"] for entry in listed} == {r["sha256"] for r in published.values()}
    assert "freed 2.0 MB" in convattn(home, hub.endpoint, "cache", "remove", "--partial").out
    ran = convattn(home, hub.endpoint, "cache", "remove", "convit_nano.wide@1.0.0", **known)
    assert ran.code == 0, ran.err
    left = [path.name for path in blobs(home, "org/wide")]
    assert published["1.0.0"]["sha256"] not in left
    assert published["1.1.0"]["sha256"] in left
    assert convattn(home, hub.endpoint, "cache", "remove", "org/wide", **known).code == 0
    assert blobs(home, "org/wide") == []
    again = convattn(home, hub.endpoint, "cache", "remove", "org/wide", "--partial")
    assert again.code == 3


def test_from_pretrained_compares_with_the_manifest_and_is_strict(
    hub: HubServer, bundle: Path, tmp_path: Path
) -> None:
    files = {p.relative_to(bundle).as_posix(): p for p in bundle.rglob("*") if p.is_file()}
    good = {path: file.read_bytes() for path, file in files.items()}
    hub.repo("org/good", good)
    other = bytes([*good[FILE][:-1], good[FILE][-1] ^ 1])
    hub.repo("org/swapped", {**good, FILE: other})
    edited = good["config.json"].replace(b'"crop_pct"', b'"crop_pct":0.5,"x"')
    hub.repo("org/edited", {**good, "config.json": edited})
    hub.repo("org/bare", {"config.json": good["config.json"], FILE: good[FILE]})
    newer = good["manifest.json"].replace(b'"format_version": 1', b'"format_version": 2')
    hub.repo("org/newer", {**good, "manifest.json": newer})
    leaving = json.loads(good["manifest.json"].replace(b'"LICENSE"', b'"../../x"'))
    hub.repo("org/leaving", {**good, "manifest.json": seal(leaving).encode()})
    flipped = good["manifest.json"].replace(b'"version": "1.0.0"', b'"version": "1.0.1"')
    hub.repo("org/flipped", {**good, "manifest.json": flipped})
    hub.repo("org/renamed", {**good, "manifest.json": seal(json.loads(flipped)).encode()})
    names = ("good", "swapped", "bare", "newer", "leaving", "renamed", "flipped", "missing")
    steps = [[name, f"org/{name}", {"revision": "main"}] for name in names]
    steps += [["revision", "org/good", {"revision": "v9"}], ["name", "good", {"revision": "main"}]]
    steps += [["by digest", "hf-hub:org/swapped", {}], ["plain", "hf-hub:org/bare", {}]]
    steps += [
        ["edited by name", "hf-hub:org/edited", {}],
        ["edited", "org/edited", {"revision": "main"}],
    ]
    steps += [["classes", "org/good", {"revision": "main", "num_classes": 3}]]
    steps += [["keyword", "org/good", {"revision": "main", "num_clases": 3}]]
    results = python(LOAD, tmp_path, hub.endpoint, steps)
    assert results["good"] == {
        "name": "convit_nano.digits", "version": "1.0.0", "sha256": sha256(good[FILE]),
    }  # fmt: skip
    assert results["plain"]["sha256"] == sha256(good[FILE])
    assert results["classes"]["sha256"] == ""
    codes = {name: result.get("code") for name, result in results.items() if "code" in result}
    assert codes == {
        "swapped": "hash",
        "by digest": "hash",
        "edited by name": "hash",
        "edited": "hash",
        "bare": "no_manifest",
        "newer": "manifest_version",
        "leaving": "path",
        "renamed": "manifest",
        "flipped": "manifest",
        "missing": "not_found",
        "revision": "no_revision",
        "name": "unknown_model",
        "keyword": "unknown_argument",
    }
    assert 'zoo.create_model("hf-hub:org/bare"' in results["bare"]["message"]
    assert FILE not in {p.name for p in blobs(tmp_path, "org/swapped")}


def test_an_endpoint_may_have_a_path_and_names_may_be_pinned_there(
    bundle: Path, tmp_path: Path
) -> None:
    with running("/artifactory/api/huggingfaceml/models") as hub:
        hub.tokens.add(TOKEN)
        ran = publish(tmp_path, hub.endpoint, bundle, "org/nano", "v1.0.0")
        assert ran.code == 0, ran.err
        record = {**ran.json["record"], "tag": "other"}
        variables = catalog(tmp_path / "c.json", record)
        steps: list[list[Any]] = [["name", "convit_nano.other@1.0.0", {}]]
        steps += [["repo", "org/nano", {"revision": "v1.0.0"}]]
        loaded = python(LOAD, tmp_path / "user", hub.endpoint, steps, **variables)
        assert {entry["sha256"] for entry in loaded.values()} == {record["sha256"]}
        pinned = convattn(tmp_path / "user", hub.endpoint, "pin", "org/nano", "--json")
        assert pinned.json[0]["sha256"] == record["sha256"]
        assert not hub.unhandled


def test_pins_are_shown_moved_and_forgotten(hub: HubServer, tmp_path: Path) -> None:
    repo = hub.repo("org/pinned", {FILE: b"\0first"})
    pin = functools.partial(convattn, tmp_path, hub.endpoint, "pin")
    first = repo.refs["main"]
    assert pin("org/pinned", "--json").json[0]["revision"] == first
    second = repo.commit({FILE: b"\0second"})
    assert pin("org/pinned", "--json").json[0]["revision"] == first
    assert pin("org/pinned", "--update", "--json").json[0]["revision"] == second
    assert sha256(b"\0second") in pin().out
    assert pin("org/pinned", "--remove").code == 0
    assert pin("--json").json == []
    for arguments in (["org/pinned", "--remove"], ["--update"], ["convit_nano"]):
        assert pin(*arguments).code == 3


@pytest.mark.usefixtures("warm")
def test_a_full_disk_is_noticed_before_anything_is_written(
    hub: HubServer, known: dict[str, str], tmp_path: Path
) -> None:
    full = "import shutil, types\nshutil.disk_usage = lambda p: types.SimpleNamespace(free=1000)\n"
    result = python(full + LOAD, tmp_path, hub.endpoint, BOTH[:1], **known)["old"]
    assert (result["error"], result["code"]) == ("ResourceError", "disk_full")
    assert "are free; make room or set HF_HOME" in result["message"]
    assert blobs(tmp_path, "org/wide") == []


def test_a_read_only_cache_serves_what_it_holds_and_says_what_it_cannot_take(
    hub: HubServer, known: dict[str, str], home: Path, published: dict[str, dict[str, Any]]
) -> None:
    (home / "hf" / "hub" / "models--org--wide" / "refs").mkdir(exist_ok=True)
    for path in [home / "hf", *(home / "hf").rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        steps = [*BOTH[:1], ["tag", "org/wide", {"revision": "v1.0.0"}]]
        as_a_user = "from tests.surroundings import drop_rights\ndrop_rights()\n"
        results = python(as_a_user + LOAD, home, hub.endpoint, steps, **known)
    finally:
        for path in [home / "hf", *(home / "hf").rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
    assert results["old"]["sha256"] == published["1.0.0"]["sha256"]
    assert (results["tag"]["error"], results["tag"]["code"]) == ("ResourceError", "not_writable")


@pytest.mark.parametrize("count", [4, pytest.param(16, marks=pytest.mark.slow)])
def test_many_processes_on_a_cold_cache_make_one_transfer(
    hub: HubServer,
    published: dict[str, dict[str, Any]],
    known: dict[str, str],
    tmp_path: Path,
    count: int,
) -> None:
    script = (
        "from zoo.catalog import registry\n"
        "from zoo.files.fetch import fetch\n"
        "from zoo.files.local import sha256_bytes\n"
        "record = registry.get_record('convit_nano.wide@1.0.0').selected\n"
        "print(sha256_bytes(fetch(record)))\n"
    )
    variables = environment(tmp_path, hub.endpoint, **known)
    before = len(hub.log)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], env=variables, cwd=tmp_path, stdout=subprocess.PIPE
        )
        for _ in range(count)
    ]
    found = {process.communicate(timeout=120)[0].decode().strip() for process in processes}
    assert found == {published["1.0.0"]["sha256"]}
    transfers = [method for method, path, _ in hub.log[before:] if path.startswith("/cdn/")]
    assert transfers == ["GET"]


def test_a_catalogue_with_an_impossible_record_is_refused(
    hub: HubServer, published: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    wrong = {**published["1.0.0"], "revision": "v1.0.0"}
    ran = convattn(
        tmp_path, hub.endpoint, "fetch", "convit_nano", **catalog(tmp_path / "c.json", wrong)
    )
    assert ran.code == 3
    assert "full commit hash" in ran.err
    assert json.loads((tmp_path / "c.json").read_text())[0]["revision"] == "v1.0.0"
