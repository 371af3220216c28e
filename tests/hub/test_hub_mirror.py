"""Mirrors: a folder or a plain file server instead of the Hub."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .client import BOTH, FILE, LOAD, convattn, python, sha256
from .server import NOBODY, HubServer


@pytest.fixture(scope="session")
def mirror(
    _hub: HubServer, warm: Path, known: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What `fetch --to` wrote: one release by name, and all of the other one by repository."""
    folder = tmp_path_factory.mktemp("mirror")
    warm = Path(shutil.copytree(warm, tmp_path_factory.mktemp("warmer") / "home", symlinks=True))
    ran = convattn(warm, _hub.endpoint, "fetch", "convit_nano.wide@1.0.0", "--to", folder, **known)
    assert ran.code == 0, ran.err
    ran = convattn(
        warm, _hub.endpoint, "fetch", "hf-hub:org/wide@v1.1.0", "--to", folder, "--all", "--json"
    )
    assert ran.code == 0, ran.err
    assert Path(ran.json["directory"]).is_relative_to(folder)
    assert "model.pt" in [entry["path"] for entry in ran.json["files"]]
    return folder


FROM_MIRROR = [*BOTH, ["repo", "org/wide", {"revision": "v1.1.0"}]]


def test_a_folder_is_a_mirror_and_the_hub_is_not_asked(
    hub: HubServer, mirror: Path, known: dict[str, str], tmp_path: Path
) -> None:
    before = len(hub.log)
    variables = {"CONVATTN_MIRROR": str(mirror), "HF_HUB_OFFLINE": "1", **known}
    steps = [*FROM_MIRROR, ["absent", "org/wide", {"revision": "v3.0.0"}]]
    loaded = python(LOAD, tmp_path, hub.endpoint, steps, **variables)
    absent = loaded.pop("absent")
    assert [entry["version"] for entry in loaded.values()] == ["1.0.0", "1.1.0", "1.1.0", "1.1.0"]
    assert (absent["error"], absent["code"]) == ("NetworkError", "no_revision")
    assert "convattn fetch NAME --to DIR" in absent["message"]
    assert hub.log[before:] == []
    directory = next(mirror.glob("org/wide/resolve/*/config.json")).parent
    assert "sha256" in python(LOAD, tmp_path, NOBODY, [["x", str(directory), {}]])["x"]


def test_a_damaged_mirror_is_an_error_and_is_left_to_its_keeper(
    hub: HubServer, mirror: Path, known: dict[str, str], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(mirror, tmp_path / "mirror"))
    for file in copy.rglob(FILE):
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    variables = {"CONVATTN_MIRROR": str(copy), **known}
    results = python(LOAD, tmp_path / "h", hub.endpoint, FROM_MIRROR, **variables)
    assert {result["code"] for result in results.values()} == {"hash"}
    assert len(list(copy.rglob(FILE))) == 2
    variables["CONVATTN_MIRROR"] = str(tmp_path / "nowhere")
    result = python(LOAD, tmp_path / "h", hub.endpoint, BOTH[:1], **variables)["old"]
    assert (result["error"], result["code"]) == ("ConfigError", "mirror")


class _Files(http.server.SimpleHTTPRequestHandler):
    """A plain file server that cuts the first transfer of every large file half-way."""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        asked = self.server.asked  # type: ignore[attr-defined]
        asked.append(self.path)
        data = source.read()
        if len(data) > 1 << 20 and asked.count(self.path) == 1:
            outputfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        outputfile.write(data)


@pytest.fixture
def file_server(mirror: Path) -> Iterator[tuple[str, list[str]]]:
    handler = functools.partial(_Files, directory=str(mirror.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{mirror.name}", server.asked  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def test_a_plain_file_server_is_a_mirror_and_cut_transfers_are_repeated(
    file_server: tuple[str, list[str]], known: dict[str, str], tmp_path: Path
) -> None:
    address, asked = file_server
    variables = {"CONVATTN_MIRROR": address, **known}
    loaded = python(LOAD, tmp_path, NOBODY, FROM_MIRROR, **variables)
    assert [entry.get("version") for entry in loaded.values()] == [
        "1.0.0", "1.1.0", "1.1.0", "1.1.0",
    ], loaded  # fmt: skip
    assert len([path for path in asked if path.endswith(FILE)]) == 4  # each once cut, once whole
    before = len(asked)
    again = python(LOAD, tmp_path, NOBODY, BOTH, HF_HUB_OFFLINE="1", **variables)
    assert all("sha256" in entry for entry in again.values())
    assert len(asked) == before
    found = convattn(tmp_path, NOBODY, "cache", "verify", **variables)
    assert (found.code, found.out.splitlines()[0]) == (0, "4 files match their digests")
    kept = next((tmp_path / "convattn" / "mirror").rglob(FILE))
    kept.write_bytes(b"!" + kept.read_bytes()[1:])
    assert convattn(tmp_path, NOBODY, "cache", "verify", **variables).code == 4
    healed = python(LOAD, tmp_path, NOBODY, BOTH, **variables)
    assert all("sha256" in entry for entry in healed.values())


def test_weights_of_others_are_pinned_from_a_mirror_as_from_the_hub(
    hub: HubServer, tmp_path: Path
) -> None:
    first = b"\0first"
    repo = hub.repo("timm/convit_tiny.fb_in1k", {FILE: first})
    mirror = tmp_path / "mirror"
    name = "convit_tiny.fb_in1k"
    ran = convattn(tmp_path / "a", hub.endpoint, "fetch", name, "--to", mirror)
    assert ran.code == 0, ran.err
    fetch = functools.partial(convattn, tmp_path / "b", NOBODY, CONVATTN_MIRROR=str(mirror))
    assert fetch("fetch", name, "--json").json["files"][0]["sha256"] == sha256(first)
    assert fetch("pin", "--json").json[0]["revision"] == repo.refs["main"]
    assert fetch("fetch", name, CONVATTN_REQUIRE_PINNED="1").code == 0
    [file] = mirror.rglob(FILE)
    file.write_bytes(b"\0forge")
    ran = fetch("fetch", name, "--json")
    assert (ran.code, ran.json["error"]["code"]) == (4, "hash")


def test_bundled_weights_are_fetched_from_the_package(tmp_path: Path) -> None:
    ran = convattn(tmp_path, NOBODY, "fetch", "convit_nano", "--to", tmp_path / "m", "--json")
    assert (ran.code, ran.json["where"]) == (0, "package")
    [file] = (tmp_path / "m" / "bundled").iterdir()
    assert sha256(file.read_bytes()) == ran.json["files"][0]["sha256"]


@pytest.mark.parametrize("reference", ["somewhere/else", "timm:resnet18", "convit_small_plus"])
def test_what_cannot_be_fetched_is_refused(reference: str, tmp_path: Path) -> None:
    ran = convattn(tmp_path, NOBODY, "fetch", reference, "--json")
    assert ran.code == 3
    assert ran.json["error"]["code"] in ("config", "no_weights")
