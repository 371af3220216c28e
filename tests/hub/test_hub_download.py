"""Downloads with the genuine client, each in a process of its own, from a Hub on this machine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.references import build_config
from zoo.weights import weights_bytes

from .server import NOBODY, Fault, HubServer, closed_network, running

ROOT = Path(__file__).resolve().parents[2]
FILE = "model.safetensors"

# Runs [name, function of zoo.hub, arguments] after one another; prints the outcomes as JSON.
CLIENT = """
import dataclasses, hashlib, json, logging, sys
from zoo import hub, registry
from zoo.errors import ZooError

lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(f"{record.levelname} {record.getMessage()}")
logging.getLogger("zoo").addHandler(handler)

def outcome(function, *arguments):
    if function == "pinned":
        return outcome("download_verified", hub.pin_on_first_use(*arguments))
    if arguments and isinstance(arguments[0], dict):
        arguments = [registry.weights_from_dict(arguments[0])]
    try:
        value = getattr(hub, function)(*arguments)
    except ZooError as error:
        return {"error": type(error).__name__, "code": error.code, "message": str(error)}
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    data, commit = value if isinstance(value, tuple) else (value, "")
    return {"sha256": hashlib.sha256(data).hexdigest(), "commit": commit}

results = {name: outcome(*call) for name, *call in json.load(sys.stdin)}
results["log"] = lines
results["torch"] = "torch" in sys.modules
print(json.dumps(results))
"""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def content(name: str) -> bytes:
    """Bytes that differ for each repository; "org/big" needs more than two chunks of 10 MiB."""
    if name == "org/big":
        return bytes(22 << 20)
    return b"".join(sha256(f"{name} {i}".encode()).encode() for i in range(40))


def record(server: HubServer, name: str, data: bytes | None = None) -> dict[str, Any]:
    """The weights record of a repository, as in a CONVATTN_CATALOG file."""
    data = content(name) if data is None else data
    return {
        "model": "convit_nano",
        "tag": "digits",
        "version": "1.0.0",
        "sha256": sha256(data),
        "size_bytes": len(data),
        "repo": name,
        "revision": server.repos[name].refs["main"] if name in server.repos else "0" * 40,
    }


def python(script: str, home: Path, endpoint: str, given: object = None, **variables: str) -> Any:
    """Run a script in a fresh process with its own cache below `home`; JSON in, JSON out."""
    environment = {
        **closed_network(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error",
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "CONVATTN_HOME": str(home / "convattn"),
        **variables,
    }
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(given),
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def client(home: Path, endpoint: str, *steps: list[Any], **variables: str) -> dict[str, Any]:
    """Run steps with `CLIENT`, which also proves that nothing else is printed to stdout."""
    results: dict[str, Any] = python(CLIENT, home, endpoint, steps, **variables)
    return results


def blobs(home: Path, name: str) -> list[Path]:
    """Files and links that the cache holds for a repository: blobs and snapshots, not refs."""
    folder = home / "hf" / "hub" / f"models--{name.replace('/', '--')}"
    kinds = (folder / "blobs", folder / "snapshots")
    return [p for kind in kinds for p in kind.rglob("*") if p.is_symlink() or p.is_file()]


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
        ("file", "not_found", "no such file or revision"),
        ("revision", "not_found", "no such file or revision"),
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
    started = time.monotonic()
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
    assert time.monotonic() - started < 15  # the client alone would retry for 23 s


def test_a_damaged_file_in_the_cache_heals_or_is_removed(server: HubServer, tmp_path: Path) -> None:
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
    assert blobs(tmp_path, "org/cached") == []


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


def test_a_pin_is_taken_on_first_use_announced_and_holds(server: HubServer, tmp_path: Path) -> None:
    repo = server.repo("org/pins", {FILE: content("org/pins")})
    first = repo.refs["main"]
    steps = (["pin", "pin_on_first_use", "org/pins"], ["load", "pinned", "org/pins"])
    results = client(tmp_path / "a", server.endpoint, *steps)
    assert (results["pin"]["revision"], results["pin"]["sha256"]) == (
        first,
        sha256(content("org/pins")),
    )
    [line] = results["log"]
    assert line.startswith("WARNING pinned")
    lock = tmp_path / "a" / "convattn" / "pins.json"
    assert json.loads(lock.read_text())["pins"] == [results["pin"]]

    repo.commit({FILE: content("newer")})  # a new commit does not move the pin
    shared = {"CONVATTN_HOME": str(lock.parent), "CONVATTN_REQUIRE_PINNED": "1"}
    results = client(tmp_path / "b", server.endpoint, *steps, **shared)
    assert results["load"]["sha256"] == sha256(content("org/pins"))
    assert results["log"] == []

    repo.commits[first][FILE] = content("forged")  # other bytes under the pinned commit
    result = client(tmp_path / "c", server.endpoint, *steps, **shared)["load"]
    assert (result["error"], result["code"]) == ("IntegrityError", "hash")
    assert "pinned at first use" in result["message"]

    lock.write_text("{}")
    assert client(tmp_path / "c", server.endpoint, steps[0], **shared)["pin"]["code"] == "lock_file"


def test_require_pinned_refuses_what_has_no_recorded_digest(
    server: HubServer, tmp_path: Path
) -> None:
    commit = server.repo("org/unpinned", {FILE: content("org/unpinned")}).refs["main"]
    before = len(server.log)
    results = client(
        tmp_path,
        server.endpoint,
        ["pin", "pin_on_first_use", "org/unpinned"],
        ["branch", "fetch_file", "org/unpinned", FILE],
        CONVATTN_REQUIRE_PINNED="1",
    )
    for name in ("pin", "branch"):
        assert (results[name]["error"], results[name]["code"]) == ("IntegrityError", "unpinned")
    assert not (tmp_path / "convattn").exists()
    assert len(server.log) == before
    commit_only = ["commit", "fetch_file", "org/unpinned", FILE, commit]
    results = client(tmp_path, server.endpoint, commit_only, CONVATTN_REQUIRE_PINNED="1")
    assert results["commit"]["commit"] == commit


def test_the_server_answers_the_other_read_routes_of_the_client(
    server: HubServer, tmp_path: Path
) -> None:
    files = {FILE: content("org/routes"), "config.json": b"{}"}
    commit = server.repo("org/routes", files).refs["main"]
    script = """
import json, huggingface_hub as hf
api, repo = hf.HfApi(), "org/routes"
tree = {entry.path: entry.lfs and entry.lfs.sha256 for entry in api.list_repo_tree(repo)}
found = [entry.path for entry in api.get_paths_info(repo, ["config.json", "absent"])]
folder = hf.snapshot_download(repo)
print(json.dumps([api.model_info(repo).sha, tree, found, folder]))
"""
    sha, tree, found, folder = python(script, tmp_path, server.endpoint)
    assert sha == commit
    assert tree == {FILE: sha256(files[FILE]), "config.json": None}
    assert found == ["config.json"]
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == files
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for path in ("", f"/revision/{commit}", "/tree/main"):
        url = f"{server.endpoint}/api/models/org/routes{path}"
        with direct.open(url) as get:
            length = len(get.read())
        with direct.open(urllib.request.Request(url, method="HEAD")) as head:
            assert (int(head.headers["Content-Length"]), head.read()) == (length, b"")


def test_a_hub_reference_builds_the_model_of_one_snapshot(
    server: HubServer, tmp_path: Path
) -> None:
    model = zoo.create_model("convit_nano", num_classes=4)
    weights = weights_bytes(model)
    config = json.dumps(build_config(model)).encode()
    server.repo("org/model", {"config.json": config, FILE: weights})
    script = """
import json, zoo
model = zoo.create_model("hf-hub:org/model", pretrained=True)
print(json.dumps([model.num_classes, model.pretrained_cfg.sha256]))
"""
    before = len(server.log)
    assert python(script, tmp_path, server.endpoint) == [4, sha256(weights)]
    paths = [path for _, path, _ in server.log[before:]]
    assert not any("/main/" in path for path in paths if FILE in path)


def test_a_timm_reference_is_pinned_verified_and_loaded_strictly(
    server: HubServer, tmp_path: Path
) -> None:
    import timm

    theirs = timm.create_model("test_vit", pretrained=False)
    repo = theirs.pretrained_cfg["hf_hub_id"]
    weights = weights_bytes(theirs)
    server.repo(repo, {FILE: weights})
    script = """
import json, zoo
model = zoo.create_model("timm:test_vit", pretrained=True)
new = zoo.create_model("timm:test_vit", pretrained=True, num_classes=3)
cfg = model.pretrained_cfg
print(json.dumps([cfg.name, cfg.sha256, len(cfg.labels), new.num_classes]))
"""
    name, digest, labels, classes = python(script, tmp_path, server.endpoint)
    assert name == f"timm:test_vit.{theirs.pretrained_cfg['tag']}"
    assert digest == sha256(weights)
    assert (labels, classes) == (1000, 3)
