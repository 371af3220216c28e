"""Publishing with the genuine client to the embedded Hub, and what is refused before that."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import export
from zoo.catalog.registry import weights_from_dict

from .client import TOKEN, convattn, publish, python, resign, sha256
from .repository import Repo, tree_oid
from .server import Fault, HubServer

ALL = ("org/nano", "v1.0.0")


def test_without_yes_nothing_is_sent_and_all_is_shown(
    hub: HubServer, bundle: Path, tmp_path: Path
) -> None:
    before = len(hub.log)
    arguments = ("publish", bundle, "--repo", "org/dry", "--tag", "v1.0.0")
    ran = convattn(tmp_path, hub.endpoint, *arguments)
    assert ran.code == 0, ran.err
    assert "nothing was sent" in ran.out
    assert sha256((bundle / "model.safetensors").read_bytes()) in ran.out
    shown = convattn(tmp_path, hub.endpoint, *arguments, "--json").json
    assert (shown["dry_run"], shown["commit"], shown["record"]["revision"]) == (True, None, None)
    assert len(hub.log) == before
    assert "org/dry" not in hub.repos


def test_a_release_is_one_commit_with_one_tag_and_a_second_time_changes_nothing(
    hub: HubServer, bundle: Path, own_bundle: Path, tmp_path: Path
) -> None:
    ran = publish(tmp_path, hub.endpoint, bundle, *ALL)
    assert ran.code == 0, ran.err
    repo = hub.repos["org/nano"]
    commit = ran.json["commit"]
    assert (repo.refs["v1.0.0"], repo.refs["main"], len(repo.commits)) == (commit, commit, 2)
    stored = {path: data for path, data in repo.commits[commit].items() if path[0] != "."}
    assert stored == {
        p.relative_to(bundle).as_posix(): p.read_bytes() for p in bundle.rglob("*") if p.is_file()
    }
    record = weights_from_dict(ran.json["record"])
    assert (record.name, record.repo, record.revision) == (
        "convit_nano.digits@1.0.0", "org/nano", commit,
    )  # fmt: skip
    assert record.manifest_sha256 == sha256(stored["manifest.json"])
    assert ran.json["changed"]

    before = len(hub.log)
    (own_bundle / "provenance.json").write_text("{}")  # another time and machine do not count
    again = publish(tmp_path, hub.endpoint, own_bundle, *ALL)
    assert again.code == 0, again.err
    assert (again.json["changed"], again.json["commit"]) == (False, commit)
    assert len(repo.commits) == 2
    sent = [line for line in (f"{m} {p}" for m, p, _ in hub.log[before:]) if "POST" in line]
    assert sent == ["POST /api/repos/create"]


def test_a_tag_with_other_bytes_is_an_error(
    hub: HubServer, own_bundle: Path, tmp_path: Path
) -> None:
    repo = hub.repo("org/taken", {"model.safetensors": b"other"})
    repo.refs["v1.0.0"] = repo.refs["main"]
    ran = publish(tmp_path, hub.endpoint, own_bundle, "org/taken", "v1.0.0")
    assert (ran.code, ran.json["error"]["code"]) == (3, "tag_exists")
    assert "published versions never change" in ran.err
    assert len(repo.commits) == 1


def test_bytes_that_are_there_without_a_tag_are_only_tagged(
    hub: HubServer, bundle: Path, tmp_path: Path
) -> None:
    """As after a process that was killed between its commit and its tag."""
    publish(tmp_path, hub.endpoint, bundle, "org/untagged", "v1.0.0")
    repo = hub.repos["org/untagged"]
    commit = repo.refs.pop("v1.0.0")
    ran = publish(tmp_path, hub.endpoint, bundle, "org/untagged", "v1.0.0")
    assert (ran.json["commit"], repo.refs["v1.0.0"], len(repo.commits)) == (commit, commit, 2)


# Somebody else commits between this process's look at the repository and its own commit.
RACE = """
import json, sys, urllib.request
import export, huggingface_hub as hf
from zoo.errors import ZooError

bundle, first = json.load(sys.stdin)
look = hf.HfApi.list_repo_refs
def look_and_wait(api, repo):
    refs = look(api, repo)
    operation = hf.CommitOperationAdd(path_in_repo="other.txt", path_or_fileobj=b"other")
    api.create_commit(repo, [operation], commit_message="other")
    return refs
hf.HfApi.list_repo_refs = look_and_wait
try:
    export.publish(bundle, "org/race", "v1.0.0", dry_run=False)
    print(json.dumps("published"))
except ZooError as error:
    print(json.dumps([type(error).__name__, error.code, str(error)]))
"""


def test_a_change_by_somebody_else_meanwhile_stops_the_release(
    hub: HubServer, bundle: Path, tmp_path: Path
) -> None:
    hub.repo("org/race", {"README.md": b"a"})
    kind, code, text = python(RACE, tmp_path, hub.endpoint, [str(bundle), ""], HF_TOKEN=TOKEN)
    assert (kind, code) == ("NetworkError", "conflict")
    assert "changed the repository meanwhile" in text
    assert "v1.0.0" not in hub.repos["org/race"].refs
    assert set(hub.repos["org/race"].commits[hub.repos["org/race"].refs["main"]]) == {
        "README.md", "other.txt",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("token", "says"), [("", "401"), ("hf_stranger", "403"), ("hf_wrong", "401")]
)
def test_without_the_right_to_write_the_message_says_how_to_get_it(
    hub: HubServer, bundle: Path, tmp_path: Path, token: str, says: str
) -> None:
    hub.strangers.add("hf_stranger")
    arguments = ("publish", bundle, "--repo", "org/mine", "--tag", "v1.0.0", "--yes", "--json")
    ran = convattn(tmp_path, hub.endpoint, *arguments, HF_TOKEN=token)
    assert (ran.code, ran.json["error"]["code"]) == (5, "unauthorized")
    assert says in ran.err
    assert "HF_TOKEN" in ran.err
    assert not token or token not in ran.err


def test_private_creates_a_private_repository_and_uploads_in_parts_work(
    hub: HubServer, bundle: Path, tmp_path: Path
) -> None:
    hub.part, hub.page = 1_000_000, 3
    try:
        hub.objects.clear()
        ran = publish(tmp_path, hub.endpoint, bundle, "org/hidden", "v1.0.0", "--private")
    finally:
        hub.part = hub.page = 0
    assert ran.code == 0, ran.err
    assert hub.repos["org/hidden"].private
    assert [r for r in hub.requests("POST /cdn/upload/whole")]


def test_nothing_private_is_sent_to_a_public_repository(
    hub: HubServer, bundle: Path, tmp_path: Path
) -> None:
    repo = hub.repo("org/open", {".gitattributes": b""})
    before = dict(repo.refs)
    ran = publish(tmp_path, hub.endpoint, bundle, "org/open", "v1.0.0", "--private")
    assert ran.code == 3
    assert "org/open is a public repository; nothing was sent" in ran.err
    assert repo.refs == before


def test_files_of_an_earlier_release_that_are_gone_leave_the_repository(
    hub: HubServer, bundle: Path, own_bundle: Path, tmp_path: Path
) -> None:
    (own_bundle / "old.onnx").write_bytes(b"old")
    resign(own_bundle)
    files = {p.relative_to(own_bundle).as_posix(): p.read_bytes()
             for p in own_bundle.rglob("*") if p.is_file()}  # fmt: skip
    repo = hub.repo("org/older", {**files, ".gitattributes": b""})
    ran = publish(tmp_path, hub.endpoint, bundle, "org/older", "v1.0.0")
    assert ran.code == 0, ran.err
    files = repo.commits[repo.refs["main"]]
    assert "old.onnx" not in files
    assert ".gitattributes" in files


@pytest.mark.parametrize("theirs", ["notes.txt", "model.safetensors"])
def test_files_that_no_release_lists_are_neither_deleted_nor_replaced(
    hub: HubServer, bundle: Path, tmp_path: Path, theirs: str
) -> None:
    name = f"org/with_{theirs[:5]}"
    repo = hub.repo(name, {theirs: b"theirs", "README.md": b"of the site", ".gitattributes": b""})
    ran = publish(tmp_path, hub.endpoint, bundle, name, "v1.0.0")
    assert (ran.code, ran.json["error"]["code"]) == (3, "others_files"), ran.err
    assert f"no release lists ({theirs})" in ran.err
    assert (len(repo.commits), set(repo.refs)) == (1, {"main"})


def test_an_upload_that_the_hub_refuses_is_neither_committed_nor_tagged(
    hub: HubServer, bundle: Path, tmp_path: Path
) -> None:
    hub.faults.append(Fault("status", "PUT /cdn/upload", status=400))
    ran = publish(tmp_path, hub.endpoint, _with_other_weights(bundle, tmp_path), "org/x", "v1.0.0")
    hub.faults.clear()
    assert ran.code == 5, ran.err
    assert "v1.0.0" not in hub.repos["org/x"].refs


def _with_other_weights(bundle: Path, tmp_path: Path) -> Path:
    """A bundle whose LFS objects the Hub does not have yet."""
    copy = Path(shutil.copytree(bundle, tmp_path / "other"))
    samples = copy / "test_data_set_0" / "samples.json"
    (copy / "test_data_set_0" / "more.onnx").write_bytes(b"\0" * 100)
    parity = json.loads((copy / "parity.json").read_text())
    parity["rows"].append({**parity["rows"][0], "file": "test_data_set_0/more.onnx"})
    (copy / "parity.json").write_text(json.dumps(parity))
    assert samples.is_file()
    resign(copy)
    return copy


def test_the_hubs_object_hashes_are_gits(tmp_path: Path) -> None:
    files = {"b.txt": b"text\n", "a/b/c.txt": b"deep", "a.txt": b"", "model.safetensors": b"\0\1"}
    repo = Repo("org/x")
    commit = repo.commit(files)
    assert commit == repo.refs["main"]

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    git("init", "-q")
    from .repository import blob

    for path, data in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(blob(path, data))
    git("add", "-A")
    assert git("write-tree") == tree_oid(files)


def test_publish_is_part_of_the_public_interface() -> None:
    assert export.publish.__module__ == "export.publishing.publish"
