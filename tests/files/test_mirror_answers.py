"""What a mirror, a pin or a partial download says is compared, bounded and left alone in time."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import os
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from zoo.errors import (
    ConfigError,
    IntegrityError,
    NetworkError,
    ResourceError,
    UnknownModelError,
    ZooError,
)
from zoo.files import cache, client_errors, download, fetch, ledger, partial_downloads, pins
from zoo.files.local import home, sha256_bytes
from zoo.files.manifest import FILE as MANIFEST
from zoo.files.manifest import make_manifest
from zoo.files.mirror import Mirror, Ref, write_references
from zoo.files.patience import Patience
from zoo.files.strays import STALE_SECONDS, hidden_name

FIRST, SECOND = "a" * 40, "b" * 40
REPO, WEIGHTS = "org/by-hand", "model.safetensors"


def write_mirror(folder: Path, files: dict[str, bytes], commit: str, *names: str) -> None:
    """A mirror of one commit, found under `names`."""
    for path, data in files.items():
        place = folder / REPO / "resolve" / commit / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    stated = {path: (len(data), sha256_bytes(data)) for path, data in files.items()}
    for name in names:
        place = folder / REPO / "refs" / f"{name}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(Ref(REPO, commit, stated).to_json())


def test_another_commit_than_the_one_asked_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mirror(tmp_path, {WEIGHTS: b"\0other"}, SECOND, FIRST, SECOND)
    monkeypatch.setenv("CONVATTN_MIRROR", str(tmp_path))
    assert download.fetch_file(REPO, WEIGHTS, SECOND) == (b"\0other", SECOND)
    with pytest.raises(IntegrityError, match=f"came back as commit {SECOND}") as caught:
        download.fetch_file(REPO, WEIGHTS, FIRST)
    assert caught.value.code == "revision"


def test_fetching_everything_compares_with_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mirror states the digest of what it holds; the manifest that of what was published."""
    published = tmp_path / "published"
    (published / "onnx").mkdir(parents=True)
    (published / "onnx" / "model.onnx").write_bytes(b"\0published")
    manifest = make_manifest(published, ["onnx/model.onnx"], "convit_nano.x", "1.0.0", 1)
    listed = manifest.to_json().encode()
    monkeypatch.setenv("CONVATTN_MIRROR", str(tmp_path / "mirror"))
    for commit, data in ((FIRST, b"\0published"), (SECOND, b"\0exchanged")):
        write_mirror(
            tmp_path / "mirror", {MANIFEST: listed, "onnx/model.onnx": data}, commit, commit
        )
    found = dict(fetch._companions(REPO, FIRST, True, ""))
    assert found == {MANIFEST: listed, "onnx/model.onnx": b"\0published"}
    with pytest.raises(IntegrityError, match="the manifest says") as caught:
        list(fetch._companions(REPO, SECOND, True, ""))
    assert caught.value.code == "hash"


class _Endless(http.server.BaseHTTPRequestHandler):
    """Answers everything with 40 MB, or with `status` and `body`; counts what was asked for."""

    answer = (200, b"")

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        status, body = self.answer
        self.send_response(status)
        self.end_headers()
        if body:
            self.wfile.write(body)
            return
        try:
            for _ in range(40):
                self.wfile.write(b" " * 1_000_000)
        except OSError:
            pass  # whoever asked has had enough


@pytest.fixture
def endless() -> Iterator[tuple[Mirror, list[str]]]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Endless) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield Mirror(f"http://127.0.0.1:{server.server_port}"), server.asked  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, b"who?", "unauthorized"),
        (403, b"not you", "unauthorized"),
        (404, b"", "no_revision"),
        (500, b"sorry", "network"),
        (200, b"<!doctype html><title>Log in</title>", "mirror"),
        (200, b'{"format_version": 1}', "mirror"),
    ],
)
def test_other_answers_of_a_server_are_typed_errors(
    endless: tuple[Mirror, list[str]],
    status: int,
    body: bytes,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mirror, _ = endless
    monkeypatch.setattr(_Endless, "answer", (status, body), raising=False)
    with pytest.raises(ZooError) as caught:
        mirror.resolve(REPO, "main")
    assert caught.value.code == code
    assert not (home() / "mirror").exists()  # nothing wrong is kept


def test_a_reference_without_end_is_not_read_to_its_end(
    endless: tuple[Mirror, list[str]],
) -> None:
    mirror, asked = endless
    with pytest.raises(NetworkError, match="it is no reference") as caught:
        mirror.resolve(REPO, "main")
    assert caught.value.code == "limit"
    assert asked == [f"/{REPO}/refs/main.json"]


def test_a_file_that_the_disk_cannot_hold_is_not_asked_for(
    endless: tuple[Mirror, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror, asked = endless
    monkeypatch.setattr("shutil.disk_usage", lambda _: types.SimpleNamespace(free=1000))
    with pytest.raises(ResourceError) as caught:
        mirror.locate(REPO, WEIGHTS, FIRST, size_bytes=5000)
    assert caught.value.code == "disk_full"
    assert asked == []


def test_the_first_of_two_pins_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process pins while this one downloads what is another file by now."""
    data = b"\0first"
    first = pins.Pin(
        repo=REPO, file=WEIGHTS, revision=FIRST, sha256=sha256_bytes(data), size_bytes=len(data)
    )

    def meanwhile(repo: str, file: str) -> tuple[bytes, str]:
        with pins._locked():
            pins._write({(REPO, WEIGHTS): first})
        return b"\0second", SECOND

    monkeypatch.setattr("zoo.files.download.fetch_file", meanwhile)
    assert fetch.pin_on_first_use(REPO) == first
    assert pins.read_pins() == {(REPO, WEIGHTS): first}
    moved = fetch.update_pin(REPO)
    assert (moved.revision, moved.sha256) == (SECOND, sha256_bytes(b"\0second"))
    assert pins.read_pins() == {(REPO, WEIGHTS): moved}


def test_a_partial_download_of_another_process_is_left_for_an_hour(tmp_path: Path) -> None:
    now = time.time()
    for minutes in (0, 50, 70):
        path = tmp_path / f"{minutes}.incomplete"
        path.write_bytes(b"123")
        os.utime(path, (now - 60 * minutes,) * 2)
    assert partial_downloads.remove_orphans(tmp_path, STALE_SECONDS) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.incomplete", "50.incomplete"]


def test_a_partial_download_that_a_process_is_at_is_left(tmp_path: Path) -> None:
    blobs = tmp_path / "models--org--x" / "blobs"
    blobs.mkdir(parents=True)
    locks = tmp_path / ".locks" / "models--org--x"
    locks.mkdir(parents=True)
    names = ("ab.12345678.incomplete", "cd.12345678.incomplete", hidden_name(".incomplete"))
    for name in names:
        (blobs / name).write_bytes(b"123")
        os.utime(blobs / name, (0, 0))
    (locks / "cd.lock").touch()  # of a process that was killed
    with FileLock(locks / "ab.lock"):
        assert partial_downloads.remove_orphans(blobs, 0.0) == 3
        assert sorted(p.name for p in blobs.iterdir()) == sorted([names[0], names[2]])
    assert partial_downloads.remove_orphans(blobs, 0.0) == 3
    assert [p.name for p in blobs.iterdir()] == [names[2]]


def test_a_cached_file_that_another_process_removed_is_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / WEIGHTS
    there.write_bytes(b"\0weights")
    places = iter((tmp_path / "removed", there))
    monkeypatch.setattr(download, "_locate", lambda wanted, mirror: next(places))
    pin = pins.Pin(
        repo=REPO, file=WEIGHTS, revision=FIRST, sha256=sha256_bytes(b"\0weights"), size_bytes=8
    )
    assert download.download_verified(pin) == b"\0weights"


def test_errors_of_the_first_download_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def locate(wanted: object, mirror: object) -> Path:
        raise NetworkError("no answer")

    monkeypatch.setattr(download, "_locate", locate)
    pin = pins.Pin(repo=REPO, file=WEIGHTS, revision=FIRST, sha256="0" * 64, size_bytes=8)
    with pytest.raises(NetworkError, match=r"^no answer$"):
        download.download_verified(pin)


def test_a_damaged_file_that_a_good_one_replaces_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.write_bytes(b"\0damaged")
    good.write_bytes(b"\0weights")
    places = iter((bad, good))
    monkeypatch.setattr(download, "_locate", lambda wanted, mirror: next(places))
    pin = pins.Pin(
        repo=REPO, file=WEIGHTS, revision=FIRST, sha256=sha256_bytes(b"\0weights"), size_bytes=8
    )
    assert download.download_verified(pin) == b"\0weights"
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def test_what_is_fetched_for_a_mirror_lies_where_a_mirror_has_it(tmp_path: Path) -> None:
    contents = iter([(MANIFEST, b"{}"), ("onnx/model.onnx", b"\0graph")])
    found = fetch._collect("name", REPO, FIRST, contents, (tmp_path, "main"))
    assert found.directory == tmp_path / REPO / "resolve" / FIRST
    assert (found.directory / "onnx" / "model.onnx").read_bytes() == b"\0graph"
    assert [size for _, size, _ in found.files] == [2, 6]
    ref = Ref.from_json((tmp_path / REPO / "refs" / "main.json").read_bytes(), "main.json")
    assert ref.digest("onnx/model.onnx") == (6, sha256_bytes(b"\0graph"))


def test_what_the_client_wraps_is_unwrapped_and_nothing_else() -> None:
    cause = ValueError("cause")
    for kind, unwrapped in ((RuntimeError, True), (NotImplementedError, False), (OSError, False)):
        error = kind("outer")
        error.__cause__ = cause
        assert client_errors.unwrap(error) is (cause if unwrapped else error)
    assert isinstance(client_errors.unwrap(RuntimeError("alone")), RuntimeError)


def test_a_folder_that_vanishes_as_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "blobs"
    folder.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "is_dir", lambda path: path.rmdir())  # removed just before the look
        with pytest.raises(FileExistsError) as vanished:
            folder.mkdir(exist_ok=True)
    assert client_errors.is_transient(vanished.value)
    assert "vanished" in str(client_errors.explain(vanished.value, "org/name", "config.json"))
    folder.touch()
    with pytest.raises(FileExistsError) as in_the_way:
        folder.mkdir(exist_ok=True)
    assert not client_errors.is_transient(in_the_way.value)
    found = client_errors.explain(in_the_way.value, "org/name", "config.json")
    assert "set HF_HOME" in str(found)


def test_a_file_of_data_is_downloaded_with_its_log_guarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub as hf

    (tmp_path / "labels.txt").write_bytes(b"one")
    asked = []

    def downloaded(repo: str, file: str, revision: str, repo_type: str, tqdm_class: type) -> str:
        asked.append((repo, file, revision, repo_type))
        return str(tmp_path / file)

    monkeypatch.setattr(download, "guard_logs", lambda: asked.append("guarded"))
    monkeypatch.setattr(hf, "hf_hub_download", downloaded)
    assert download.fetch_data_file("org/data", "labels.txt", "v1") == b"one"
    assert asked == ["guarded", ("org/data", "labels.txt", "v1", "dataset")]


def test_a_server_of_data_that_asks_to_wait_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After: 300, which the client would obey five times."""
    import huggingface_hub as hf

    asked_to_wait = threading.Event()
    monkeypatch.setattr(hf, "hf_hub_download", lambda *_, **__: asked_to_wait.wait())
    monkeypatch.setattr(download, "Patience", functools.partial(Patience, 0.05))
    with pytest.raises(NetworkError, match="cannot download x of org/data: nothing arrived"):
        download.fetch_data_file("org/data", "x")
    asked_to_wait.set()


def test_the_cache_knows_a_repository_from_a_name() -> None:
    assert cache._place_in_hub("hf-hub:org/name@v1") == ("org/name", "v1")
    assert cache._place_in_hub("org/name") == ("org/name", "")
    with pytest.raises(UnknownModelError, match="is not pinned, so nothing says which commit of"):
        cache._place_in_hub("convit_tiny.fb_in1k")
    with pytest.raises(ConfigError, match="has no weights on the Hub"):
        cache._place_in_hub("convit_nano.digits")


def test_a_busy_server_is_asked_again_and_no_other_refusal_is() -> None:
    def refused(status: int) -> bool:
        error = OSError("no")
        error.response = types.SimpleNamespace(status_code=status)  # as the client's have
        return client_errors.is_transient(error)

    again = {status for status in range(400, 600) if refused(status)}
    assert again == {408, 429, 500, 502, 503, 504}


def test_only_code_that_was_exported_here_or_is_trusted_runs() -> None:
    ledger.remember(["a" * 64])
    ledger.require_own_code("model.pt2", "a" * 64, trust_code=False)
    ledger.require_own_code("model.pt2", "b" * 64, trust_code=True)
    with pytest.raises(IntegrityError, match="--trust-code") as caught:
        ledger.require_own_code("model.pt2", "b" * 64, trust_code=False)
    assert caught.value.code == "code_not_trusted"


def test_a_cached_file_is_judged_by_a_record_then_a_manifest_then_the_name_of_its_blob(
    tmp_path: Path,
) -> None:
    snapshot = tmp_path / "snapshots" / FIRST
    snapshot.mkdir(parents=True)
    (tmp_path / ("d" * 64)).write_bytes(b"1")
    for name in "abc":
        (snapshot / name).symlink_to(tmp_path / ("d" * 64))
    (snapshot / "plain").write_bytes(b"1")
    listed, known = {"b": "2" * 64, "a": "2" * 64}, {(REPO, FIRST, "a"): ("1" * 64, "pin")}
    found = list(cache._snapshot_files(REPO, snapshot, listed, known))
    assert [dataclasses.astuple(entry)[-2:] for entry in found] == [
        ("1" * 64, "pin"), ("2" * 64, "manifest"), ("d" * 64, "hub"), ("", ""),
    ]  # fmt: skip


def test_fetching_less_of_a_commit_later_takes_nothing_from_the_list(tmp_path: Path) -> None:
    whole = {WEIGHTS: (3, "0" * 64), "onnx/model.onnx": (5, "1" * 64)}
    write_references(tmp_path, Ref(REPO, FIRST, whole), ["v1.0.0"])
    write_references(tmp_path, Ref(REPO, FIRST, {WEIGHTS: (3, "0" * 64)}), ["main"])
    mirror = Mirror(str(tmp_path))
    for name in (FIRST, "v1.0.0", "main"):
        assert mirror.resolve(REPO, name).digest("onnx/model.onnx") == (5, "1" * 64)
    write_references(tmp_path, Ref(REPO, SECOND, {WEIGHTS: (4, "2" * 64)}), ["main"])
    assert mirror.resolve(REPO, "main").files == {WEIGHTS: (4, "2" * 64)}
