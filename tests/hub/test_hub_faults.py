"""What a network does to a download: cuts, refusals, silence; with the genuine client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .client import FILE, blobs, catalog, convattn, environment, pinning, python
from .server import Fault, HubServer

# Downloads each record of a list by the catalogue's own reader; prints digest or error.
DOWNLOAD = """
import hashlib, json, sys
from zoo.files import download as hub
from zoo.catalog import registry
from zoo.errors import ZooError

def outcome(values):
    try:
        data = hub.download_verified(registry.weights_from_dict(values))
        return {"sha256": hashlib.sha256(data).hexdigest()}
    except ZooError as error:
        return {"error": type(error).__name__, "code": error.code, "message": str(error)}

print(json.dumps([outcome(values) for values in json.load(sys.stdin)]))
"""


def record(server: HubServer, name: str, data: bytes) -> dict[str, Any]:
    """Put a file into a repository of its own; the record that pins it."""
    return pinning(name, data, server.repo(name, {FILE: data}).refs["main"])


def content(megabytes: float, seed: int = 0) -> bytes:
    return bytes([seed]) * round(megabytes * 1e6)


def test_a_cut_at_22_of_25_mb_is_resumed_at_20_mib_and_a_server_without_ranges_works(
    hub: HubServer, tmp_path: Path
) -> None:
    records = [
        record(hub, f"org/{name}", content(25, n)) for n, name in enumerate(("cut", "plain"))
    ]
    hub.faults = [
        Fault("truncate", "GET /cdn/org/cut", times=1, at=22_000_000),
        Fault("truncate", "GET /cdn/org/plain", times=1, at=22_000_000),
        Fault("norange", "GET /cdn/org/plain"),
    ]
    results = python(DOWNLOAD, tmp_path, hub.endpoint, records)
    assert [result["sha256"] for result in results] == [r["sha256"] for r in records]
    for name in ("cut", "plain"):
        ranges = [h.get("Range") for _, path, h in hub.log if f"/cdn/org/{name}" in path]
        assert ranges == [None, "bytes=20971520-"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(hub: HubServer, tmp_path: Path, status: int) -> None:
    wanted = record(hub, f"org/busy{status}", content(0.1, 7))
    hub.faults = [Fault("status", f"GET /cdn/org/busy{status}", times=1, status=status)]
    [result] = python(DOWNLOAD, tmp_path, hub.endpoint, [wanted])
    assert result == {"sha256": wanted["sha256"]}


def test_corruption_in_the_resumed_part_is_noticed(hub: HubServer, tmp_path: Path) -> None:
    wanted = record(hub, "org/resumed", content(12, 3))
    hub.faults = [
        Fault("truncate", "GET /cdn/org/resumed", times=1, at=11_000_000),
        Fault("corrupt", "GET /cdn/org/resumed", times=1),
    ]
    [result] = python(DOWNLOAD, tmp_path, hub.endpoint, [wanted])
    assert result == {"sha256": wanted["sha256"]}
    assert len(hub.requests("GET /cdn/org/resumed")) == 3


def test_a_killed_download_leaves_nothing_that_is_ever_used(hub: HubServer, tmp_path: Path) -> None:
    wanted = record(hub, "org/killed", content(25, 5))
    process, partial = _stalled(hub, tmp_path, wanted)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert partial
    assert not [path for path in blobs(tmp_path, "org/killed") if path.is_symlink()]
    for path in partial:
        os.utime(path, (0, 0))  # as if it had lain there for long
    [result] = python(DOWNLOAD, tmp_path, hub.endpoint, [wanted])
    assert result == {"sha256": wanted["sha256"]}
    assert _incomplete(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("what", ["--partial", "org/emptied"])
def test_a_cache_that_is_cleared_during_a_download_is_filled_all_the_same(
    hub: HubServer, tmp_path: Path, what: str
) -> None:
    first = record(hub, "org/emptied", content(1, 6))
    assert python(DOWNLOAD, tmp_path, hub.endpoint, [first]) == [{"sha256": first["sha256"]}]
    known = catalog(tmp_path / "catalog.json", {**first, "tag": "emptied"})
    repo = hub.repos["org/emptied"]
    repo.commit({FILE: content(25, 7)})
    second = pinning(repo.name, content(25, 7), repo.refs["main"])
    process, partial = _stalled(hub, tmp_path, second)
    ran = convattn(tmp_path, hub.endpoint, "cache", "remove", what, **known)
    assert (ran.code, ran.err) == (0, "")
    assert [path.exists() for path in partial] == [what == "--partial"]
    assert json.loads(process.communicate()[0]) == [{"sha256": second["sha256"]}]
    both = [{"sha256": wanted["sha256"]} for wanted in (first, second)]
    assert python(DOWNLOAD, tmp_path, hub.endpoint, [first, second]) == both


# As DOWNLOAD, over and over until the file STOP appears; says how often.
AGAIN = DOWNLOAD.replace(
    "print(json.dumps([outcome(values) for values in json.load(sys.stdin)]))",
    """
import os
found, [values] = [], json.load(sys.stdin)
while not os.path.exists("STOP"):
    found.append(outcome(values))
print(json.dumps(found))
""",
)


@pytest.mark.slow
def test_loads_work_while_their_files_are_removed_over_and_over(
    hub: HubServer, tmp_path: Path
) -> None:
    wanted = record(hub, "org/restless", content(1, 9))
    known = catalog(tmp_path / "catalog.json", {**wanted, "tag": "restless"})
    with ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(python, AGAIN, tmp_path, hub.endpoint, [wanted]) for _ in range(2)]
        removed = [
            convattn(tmp_path, hub.endpoint, "cache", "remove", "org/restless", **known)
            for _ in range(12)
        ]
        (tmp_path / "STOP").touch()
        found = [outcome for load in loads for outcome in load.result()]
    codes = {ran.code for ran in removed}
    assert 0 in codes, removed
    assert codes <= {0, 3}, removed  # 3: nothing was there at that moment
    assert len(found) > 24
    assert [outcome for outcome in found if outcome != {"sha256": wanted["sha256"]}] == []
    assert python(DOWNLOAD, tmp_path, hub.endpoint, [wanted]) == [{"sha256": wanted["sha256"]}]


@pytest.mark.slow
def test_what_a_killed_download_left_is_removed_at_once_if_asked(
    hub: HubServer, tmp_path: Path
) -> None:
    wanted = record(hub, "org/left", content(25, 8))
    process, [partial] = _stalled(hub, tmp_path, wanted)
    process.kill()
    process.communicate()
    freed = f"freed {partial.stat().st_size / 1e6:.1f} MB\n"
    ran = convattn(tmp_path, hub.endpoint, "cache", "remove", "--partial")
    assert (ran.code, ran.out, ran.err) == (0, freed, "")
    assert not partial.exists()
    assert python(DOWNLOAD, tmp_path, hub.endpoint, [wanted]) == [{"sha256": wanted["sha256"]}]


def _stalled(
    hub: HubServer, home: Path, wanted: dict[str, Any]
) -> tuple[subprocess.Popen[bytes], list[Path]]:
    """A process that waits for the last part of a file, and its partial download."""
    hub.faults = [Fault("stall", f"GET /cdn/{wanted['repo']}", times=1, at=22_000_000)]
    process = subprocess.Popen(
        [sys.executable, "-c", DOWNLOAD],
        env=environment(home, hub.endpoint),
        cwd=home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps([wanted]).encode())
    process.stdin.close()
    process.stdin = None  # `communicate` would flush it
    deadline = time.monotonic() + 60
    while not (partial := _incomplete(home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process, partial


def _incomplete(home: Path) -> list[Path]:
    return [path for path in (home / "hf").rglob("*.incomplete") if path.stat().st_size]


@pytest.mark.parametrize(
    ("name", "token", "code", "advice"),
    [
        ("org/secret", "", "not_found", "missing or private"),
        ("org/secret", "hf_stranger", "not_found", "missing or private"),
        ("org/fenced", "", "gated", "ask for access"),
        ("org/fenced", "hf_stranger", "gated", "ask for access"),
        ("org/fenced", "hf_wrong", "unauthorized", "hf auth login"),
    ],
)
def test_private_and_gated_repositories_say_what_to_do(
    hub: HubServer, tmp_path: Path, name: str, token: str, code: str, advice: str
) -> None:
    hub.faults = []
    hub.strangers.add("hf_stranger")
    wanted = record(hub, name, content(0.1))
    hub.repos[name].private, hub.repos[name].gated = name == "org/secret", name == "org/fenced"
    [result] = python(DOWNLOAD, tmp_path, hub.endpoint, [wanted], HF_TOKEN=token)
    assert (result["error"], result["code"]) == ("NetworkError", code)
    assert advice in result["message"]
    assert not token or token not in result["message"]


def test_a_route_that_the_hub_does_not_have_is_noted(tmp_path: Path) -> None:
    from .server import running

    with running() as server:
        server.repo("org/x", {})
        script = (
            "import json, huggingface_hub as hf\n"
            "try:\n    hf.HfApi().get_discussion_details('org/x', 1)\n"
            "except Exception as error:\n    print(json.dumps(type(error).__name__))\n"
        )
        assert python(script, tmp_path, server.endpoint)
        assert server.unhandled
