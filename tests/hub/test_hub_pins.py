"""Pins of other people's files, and models from repositories and from timm."""

from __future__ import annotations

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import zoo
from zoo.factory.config_json import build_config
from zoo.weights.safetensors_file import weights_bytes

from .client import FILE, python, sha256
from .server import HubServer
from .steps import client, content


def test_a_pin_is_taken_on_first_use_announced_and_holds(hub: HubServer, tmp_path: Path) -> None:
    repo = hub.repo("org/pins", {FILE: content("org/pins")})
    first = repo.refs["main"]
    steps = (["pin", "pin_on_first_use", "org/pins"], ["load", "pinned", "org/pins"])
    results = client(tmp_path / "a", hub.endpoint, *steps)
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
    results = client(tmp_path / "b", hub.endpoint, *steps, **shared)
    assert results["load"]["sha256"] == sha256(content("org/pins"))
    assert results["log"] == []

    repo.commits[first][FILE] = content("forged")  # other bytes under the pinned commit
    result = client(tmp_path / "c", hub.endpoint, *steps, **shared)["load"]
    assert (result["error"], result["code"]) == ("IntegrityError", "hash")
    assert "pinned at first use" in result["message"]

    lock.write_text("{}")
    assert client(tmp_path / "c", hub.endpoint, steps[0], **shared)["pin"]["code"] == "lock_file"


# Pins repositories, one after the other, from a moment on that all processes share.
PINS = """
import json, sys, time
from zoo.files.fetch import pin_on_first_use
start, repos = json.load(sys.stdin)
time.sleep(max(start - time.time(), 0))
print(json.dumps([pin_on_first_use(repo).revision for repo in repos]))
"""


@pytest.mark.slow
def test_processes_that_pin_at_once_lose_no_pin(hub: HubServer, tmp_path: Path) -> None:
    names = [f"org/at-once-{number}" for number in range(24)]
    commits = [hub.repo(name, {FILE: content(name)}).refs["main"] for name in names]
    start = time.time() + 3

    def pinned(first: int) -> list[str]:
        found: list[str] = python(PINS, tmp_path, hub.endpoint, [start, names[first::3]])
        return found

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(pinned, range(3)))
    assert found == [commits[first::3] for first in range(3)]
    lock = json.loads((tmp_path / "convattn" / "pins.json").read_text())
    pins = {pin["repo"]: (pin["revision"], pin["sha256"]) for pin in lock["pins"]}
    assert pins == {
        name: (commit, sha256(content(name))) for name, commit in zip(names, commits, strict=True)
    }


def test_require_pinned_refuses_what_has_no_recorded_digest(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.repo("org/unpinned", {FILE: content("org/unpinned")}).refs["main"]
    before = len(hub.log)
    results = client(
        tmp_path,
        hub.endpoint,
        ["pin", "pin_on_first_use", "org/unpinned"],
        ["branch", "fetch_file", "org/unpinned", FILE],
        CONVATTN_REQUIRE_PINNED="1",
    )
    for name in ("pin", "branch"):
        assert (results[name]["error"], results[name]["code"]) == ("IntegrityError", "unpinned")
    assert not (tmp_path / "convattn").exists()
    assert len(hub.log) == before
    commit_only = ["commit", "fetch_file", "org/unpinned", FILE, commit]
    results = client(tmp_path, hub.endpoint, commit_only, CONVATTN_REQUIRE_PINNED="1")
    assert results["commit"]["commit"] == commit


def test_the_server_answers_the_other_read_routes_of_the_client(
    hub: HubServer, tmp_path: Path
) -> None:
    files = {FILE: content("org/routes"), "config.json": b"{}"}
    commit = hub.repo("org/routes", files).refs["main"]
    script = """
import json, huggingface_hub as hf
api, repo = hf.HfApi(), "org/routes"
tree = {entry.path: entry.lfs and entry.lfs.sha256 for entry in api.list_repo_tree(repo)}
found = [entry.path for entry in api.get_paths_info(repo, ["config.json", "absent"])]
folder = hf.snapshot_download(repo)
print(json.dumps([api.model_info(repo).sha, tree, found, folder]))
"""
    sha, tree, found, folder = python(script, tmp_path, hub.endpoint)
    assert sha == commit
    assert tree == {FILE: sha256(files[FILE]), "config.json": None}
    assert found == ["config.json"]
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == files
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for path in ("", f"/revision/{commit}", "/tree/main"):
        url = f"{hub.endpoint}/api/models/org/routes{path}"
        with direct.open(url) as get:
            length = len(get.read())
        with direct.open(urllib.request.Request(url, method="HEAD")) as head:
            assert (int(head.headers["Content-Length"]), head.read()) == (length, b"")


def test_a_hub_reference_builds_the_model_of_one_snapshot(hub: HubServer, tmp_path: Path) -> None:
    model = zoo.create_model("convit_nano", num_classes=4)
    weights = weights_bytes(model)
    config = json.dumps(build_config(model)).encode()
    hub.repo("org/model", {"config.json": config, FILE: weights})
    script = """
import json, zoo
model = zoo.create_model("hf-hub:org/model", pretrained=True)
print(json.dumps([model.num_classes, model.pretrained_cfg.sha256]))
"""
    before = len(hub.log)
    assert python(script, tmp_path, hub.endpoint) == [4, sha256(weights)]
    paths = [path for _, path, _ in hub.log[before:]]
    assert not any("/main/" in path for path in paths if FILE in path)


def test_a_timm_reference_is_pinned_verified_and_loaded_strictly(
    hub: HubServer, tmp_path: Path
) -> None:
    import timm

    theirs = timm.create_model("test_vit", pretrained=False)
    repo = theirs.pretrained_cfg["hf_hub_id"]
    weights = weights_bytes(theirs)
    hub.repo(repo, {FILE: weights})
    script = """
import json, zoo
model = zoo.create_model("timm:test_vit", pretrained=True)
new = zoo.create_model("timm:test_vit", pretrained=True, num_classes=3)
cfg = model.pretrained_cfg
adapted = [new.num_classes, new.pretrained_cfg.sha256]
print(json.dumps([cfg.name, cfg.sha256, len(cfg.labels), adapted]))
"""
    name, digest, labels, adapted = python(script, tmp_path, hub.endpoint)
    assert name == f"timm:test_vit.{theirs.pretrained_cfg['tag']}"
    assert digest == sha256(weights)
    assert (labels, adapted) == (1000, [3, ""])  # no longer the weights of that digest
