"""Downloads with the genuine client, each in a process of its own, from a Hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .client import FILE, blobs, environment, sha256
from .reading import SIGNATURE
from .server import NOBODY, Fault, HubServer, running
from .steps import CLIENT, client, content, record


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with running() as hub:
        yield hub
        assert not hub.unhandled


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def online(server: HubServer, home: Path) -> dict[str, Any]:
    """One process that meets every state of a server, each in a repository of its own."""
    plain = ("good", "once", "always", "cut", "big", "short", "html", "busy", "portal")
    records = [f"org/{name}" for name in plain]
    for name in (*records, "org/config"):
        server.repo(name, {FILE: content(name), "config.json": b'{"architecture": "x"}'})
    server.repo("org/private", {FILE: content("org/private")}, private=True)
    server.repo("org/gated", {FILE: content("org/gated")}, gated=True)
    server.repo("org/moving", {FILE: content("first"), "config.json": b"{}"}).commit(
        {FILE: content("second"), "config.json": b"{ }"}, "v2"
    )
    page = b"<!doctype html><html>".ljust(len(content("org/html")))
    server.faults = [
        Fault("corrupt", "GET /cdn/org/once", times=1),
        Fault("corrupt", "GET /cdn/org/always"),
        Fault("corrupt", "GET /org/config/resolve", times=1),
        Fault("truncate", "GET /cdn/org/cut", times=1),
        Fault("truncate", "GET /cdn/org/big", times=1),
        Fault("short", "GET /cdn/org/short"),
        Fault("status", "GET /cdn/org/html", status=200, body=page),
        Fault("status", "GET /cdn/org/busy", status=503),
        Fault("status", "/org/portal/", status=200, body=page),
    ]
    first = next(iter(server.repos["org/moving"].commits))
    records += ["org/private", "org/gated", "org/missing"]
    return client(
        home,
        server.endpoint,
        *([name, "download_verified", record(server, name)] for name in records),
        ["again", "download_verified", record(server, "org/good")],
        ["file", "fetch_file", "org/good", "absent.txt"],
        ["revision", "fetch_file", "org/good", FILE, "v9"],
        ["name", "fetch_file", "not a repository", FILE],
        ["config", "fetch_file", "org/config", "config.json"],
        ["main", "fetch_file", "org/moving", FILE],
        ["tag", "fetch_file", "org/moving", "config.json", "v2"],
        ["first", "fetch_file", "org/moving", FILE, first],
        ["always by name", "fetch_file", "org/always", FILE],
    )


def test_a_good_file_is_verified_without_torch(online: dict[str, Any]) -> None:
    assert online["org/good"]["sha256"] == sha256(content("org/good"))
    assert not online["torch"]


def test_a_second_load_makes_no_request(server: HubServer, online: dict[str, Any]) -> None:
    assert online["again"] == online["org/good"]
    downloads = [r for r in server.requests("org/good") if FILE in r or "cdn" in r]
    assert len([r for r in downloads if r.startswith("GET")]) == 1
    assert len([r for r in downloads if r.startswith("HEAD") and "v9" not in r]) == 2


def test_a_corrupted_transfer_heals_on_retry(server: HubServer, online: dict[str, Any]) -> None:
    assert online["org/once"]["sha256"] == sha256(content("org/once"))
    assert len(server.requests("GET /cdn/org/once")) == 2
    assert online["config"]["sha256"] == sha256(b'{"architecture": "x"}')
    assert len(server.requests("GET /org/config/resolve")) == 2


def test_a_connection_cut_once_is_resumed_by_the_client(
    server: HubServer, online: dict[str, Any]
) -> None:
    assert online["org/cut"]["sha256"] == sha256(content("org/cut"))
    assert online["org/big"]["sha256"] == sha256(content("org/big"))
    ranges = [headers.get("Range") for _, path, headers in server.log if "/cdn/org/big" in path]
    assert ranges == [None, f"bytes={10 << 20}-"]


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("org/always", "hash", "org/always"),
        ("always by name", "hash", "the Hub states"),
        ("org/html", "hash", "an HTML page"),
        ("org/short", "truncated", "another length"),
    ],
)
def test_a_permanent_mismatch_is_an_integrity_error_that_leaves_nothing_in_the_cache(
    online: dict[str, Any], home: Path, name: str, code: str, says: str
) -> None:
    result = online[name]
    assert (result["error"], result["code"]) == ("IntegrityError", code)
    assert says.replace("org/always", "SHA-256") in result["message"]
    assert blobs(home, name.replace("always by name", "org/always")) == []


@pytest.mark.parametrize(
    ("name", "code", "advice"),
    [
        ("org/missing", "not_found", "check the name"),
        ("org/private", "not_found", "HF_TOKEN"),
        ("org/gated", "gated", "ask for access"),
        ("org/busy", "network", "status 503; try again later"),
        ("org/portal", "network", "check HF_ENDPOINT and the proxy"),
        ("file", "no_file", "no such file in this revision"),
        ("revision", "no_revision", "no such branch, tag or commit"),
    ],
)
def test_a_refusal_has_its_code_and_says_what_to_do(
    online: dict[str, Any], home: Path, name: str, code: str, advice: str
) -> None:
    result = online[name]
    assert (result["error"], result["code"]) == ("NetworkError", code)
    assert advice in result["message"]
    assert "\n" not in result["message"]
    assert str(home) not in result["message"]


def test_an_impossible_repository_name_is_a_config_error(online: dict[str, Any]) -> None:
    assert (online["name"]["error"], online["name"]["code"]) == ("ConfigError", "repo")


def test_a_branch_a_tag_and_a_commit_name_their_snapshot(
    server: HubServer, online: dict[str, Any]
) -> None:
    first, second = server.repos["org/moving"].commits
    assert online["main"] == {"sha256": sha256(content("second")), "commit": second}
    assert online["tag"] == {"sha256": sha256(b"{ }"), "commit": second}
    assert online["first"] == {"sha256": sha256(content("first")), "commit": first}


@pytest.mark.usefixtures("online")
def test_offline_the_cache_is_enough_and_nothing_is_requested(
    server: HubServer, home: Path
) -> None:
    before = len(server.log)
    results = client(
        home,
        server.endpoint,
        ["cached", "download_verified", record(server, "org/good")],
        ["branch", "fetch_file", "org/moving", FILE],
        ["absent", "download_verified", record(server, "org/always")],
        HF_HUB_OFFLINE="1",
    )
    assert results["cached"]["sha256"] == sha256(content("org/good"))
    assert results["branch"]["sha256"] == sha256(content("second"))
    assert (results["absent"]["error"], results["absent"]["code"]) == ("NetworkError", "offline")
    assert "unset it" in results["absent"]["message"]
    assert len(server.log) == before


@pytest.mark.usefixtures("online")
def test_a_dead_endpoint_serves_the_cache_and_fails_soon_otherwise(
    server: HubServer, home: Path
) -> None:
    results = client(
        home,
        NOBODY,
        ["cached", "download_verified", record(server, "org/good")],
        ["branch", "fetch_file", "org/moving", FILE],
        ["absent", "download_verified", record(server, "org/always")],
    )
    assert results["cached"]["sha256"] == sha256(content("org/good"))
    assert results["branch"]["sha256"] == sha256(content("second"))
    assert (results["absent"]["error"], results["absent"]["code"]) == ("NetworkError", "network")
    assert "check the connection" in results["absent"]["message"]
    assert results["slept"] < 5  # the client alone would sleep for 23 s between its attempts


def test_a_damaged_file_in_the_cache_heals_and_offline_it_is_kept(
    server: HubServer, tmp_path: Path
) -> None:
    server.repo("org/cached", {FILE: content("org/cached")})
    load = ["x", "download_verified", record(server, "org/cached")]
    by_name = ["y", "fetch_file", "org/cached", FILE]
    client(tmp_path, server.endpoint, load)
    blob = next(p for p in blobs(tmp_path, "org/cached") if not p.is_symlink())

    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    assert client(tmp_path, server.endpoint, load)["x"]["sha256"] == sha256(content("org/cached"))
    assert blob.read_bytes() == content("org/cached")

    blob.write_bytes(blob.read_bytes()[:-1])
    assert client(tmp_path, server.endpoint, by_name)["y"]["sha256"] == sha256(
        content("org/cached")
    )

    blob.write_bytes(b"!" + blob.read_bytes()[1:])
    result = client(tmp_path, server.endpoint, load, HF_HUB_OFFLINE="1")["x"]
    assert (result["error"], result["code"]) == ("IntegrityError", "hash")
    assert "HF_HUB_OFFLINE" in result["message"]
    assert blob.read_bytes()[:1] == b"!"
    assert len(blobs(tmp_path, "org/cached")) == 2
    assert client(tmp_path, server.endpoint, load)["x"]["sha256"] == sha256(content("org/cached"))
    assert sorted(p.is_symlink() for p in blobs(tmp_path, "org/cached")) == [False, True]


@pytest.mark.parametrize("in_place_of", ["the blob", "the link"])
@pytest.mark.parametrize("kind", [os.mkfifo, os.mkdir])
def test_a_fifo_or_folder_in_the_cache_heals(
    server: HubServer, tmp_path: Path, kind: Callable[[Path], None], in_place_of: str
) -> None:
    server.repo("org/odd", {FILE: content("org/odd")})
    load = ["x", "download_verified", record(server, "org/odd")]
    client(tmp_path, server.endpoint, load)
    wanted = in_place_of == "the link"
    place = next(p for p in blobs(tmp_path, "org/odd") if p.is_symlink() == wanted)
    place.unlink()
    kind(place)
    if place.is_dir():
        (place / "inside").write_text("something")
    for _ in range(2):
        loaded = client(tmp_path, server.endpoint, load)["x"]
        assert loaded.get("sha256") == sha256(content("org/odd")), loaded
    assert not list(tmp_path.rglob("*.incomplete"))


def test_a_signed_address_never_reaches_the_terminal(server: HubServer, tmp_path: Path) -> None:
    name = "org/signed"
    server.repo(name, {FILE: content(name)})
    server.faults.append(Fault("truncate", f"GET /cdn/{name}", times=1))
    ran = subprocess.run(
        [sys.executable, "-c", CLIENT],
        input=json.dumps([["x", "download_verified", record(server, name)]]),
        env=environment(tmp_path, server.endpoint, HF_HUB_VERBOSITY="debug"),
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert json.loads(ran.stdout)["x"]["sha256"] == sha256(content(name))
    assert f"Error while downloading from {server.cdn}/{name}" in ran.stderr
    assert SIGNATURE not in ran.stderr + ran.stdout


@pytest.mark.slow
def test_a_server_that_is_busy_for_ever_is_left_within_a_minute(
    server: HubServer, tmp_path: Path
) -> None:
    server.repo("org/busier", {FILE: content("org/busier")})
    server.faults.append(Fault("status", "GET /cdn/org/busier", status=429))
    started = time.monotonic()
    load = ["x", "download_verified", record(server, "org/busier")]
    assert client(tmp_path, server.endpoint, load)["x"]["code"] == "network"
    assert time.monotonic() - started < 65


def test_a_cache_without_links_is_compared_with_the_digest_that_the_server_states(
    server: HubServer, tmp_path: Path
) -> None:
    for name in ("org/copy", "org/copybad"):
        server.repo(name, {FILE: content(name)})
    server.faults.append(Fault("corrupt", "GET /cdn/org/copybad"))
    results = client(
        tmp_path,
        server.endpoint,
        ["good", "fetch_file", "org/copy", FILE],
        ["bad", "fetch_file", "org/copybad", FILE],
        HF_HUB_DISABLE_SYMLINKS="1",
    )
    assert not any(p.is_symlink() for p in blobs(tmp_path, "org/copy"))
    assert results["good"]["sha256"] == sha256(content("org/copy"))
    assert results["bad"]["code"] == "hash"
    assert blobs(tmp_path, "org/copybad") == []


@pytest.mark.usefixtures("online")
def test_a_cache_that_cannot_be_written_is_a_resource_error(
    server: HubServer, tmp_path: Path
) -> None:
    (tmp_path / "hf").write_text("a file where the cache should be")
    load = ["x", "download_verified", record(server, "org/good")]
    result = client(tmp_path, server.endpoint, load)["x"]
    assert (result["error"], result["code"]) == ("ResourceError", "not_writable")
    assert "set HF_HOME" in result["message"]


def test_a_token_opens_a_private_repository_and_never_reaches_the_storage(
    server: HubServer, tmp_path: Path
) -> None:
    server.repo("org/secret", {FILE: content("org/secret")}, private=True)
    server.tokens.add("hf_right")
    load = ["x", "download_verified", record(server, "org/secret")]
    wrong = client(tmp_path, server.endpoint, load, HF_TOKEN="hf_wrong")["x"]
    assert (wrong["error"], wrong["code"]) == ("NetworkError", "unauthorized")
    assert "hf_wrong" not in wrong["message"]
    right = client(tmp_path, server.endpoint, load, HF_TOKEN="hf_right")["x"]
    assert right["sha256"] == sha256(content("org/secret"))
    storage = [headers for _, path, headers in server.log if path.startswith("/cdn/org/secret")]
    assert storage
    assert not any("authorization" in map(str.lower, headers) for headers in storage)
