"""Publish a bundle to a Hub repository: refuse what is not in order, one commit, one tag.

Nothing is sent unless asked for: by default `publish` only says what it would send. The commit is
guarded by its parent, the tag is put on the commit's hash, and the same bytes again change nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, NetworkError, ZooError
from zoo.files.client_errors import client_errors, explain
from zoo.files.local import sha256_bytes
from zoo.files.manifest import FILE as MANIFEST
from zoo.files.manifest import parse_manifest

from .checks import SignedOff, sign_off
from .names import CARD, PROVENANCE

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi


Report = Callable[[str], None]
_KEPT = (".gitattributes",)  # files that the Hub itself puts into a repository


@dataclass(frozen=True)
class Publication:
    """What `publish` did or, on a dry run, would do.

    Args:
        repo, tag: where.
        files: (path, size in bytes, SHA-256) of everything that belongs to the release.
        commit: the full hash that the tag names; empty on a dry run.
        changed: whether a commit or a tag was made.
        record: for the registry (`zoo.register_weights`, a CONVATTN_CATALOG file); on a dry run
            without its revision.
    """

    repo: str
    tag: str
    files: tuple[tuple[str, int, str], ...]
    commit: str
    changed: bool
    record: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "repo": self.repo,
            "tag": self.tag,
            "dry_run": not self.commit,
            "commit": self.commit or None,
            "changed": self.changed,
            "files": [{"path": p, "size_bytes": n, "sha256": d} for p, n, d in self.files],
            "record": self.record,
        }


def publish(
    bundle: str | Path,
    repo: str,
    tag: str,
    *,
    private: bool = False,
    dry_run: bool = True,
    progress: Report = lambda line: None,
) -> Publication:
    """Send a bundle to a Hub repository as one commit with one tag.

    The snippets of the card that is sent read from this repository, whichever the bundle was
    written for, and its manifest is signed for that.

    Args:
        bundle: a directory of `write_bundle`.
        repo: ``org/name``; created if it does not exist.
        tag: ``vX.Y.Z``, the version of the bundle.
        private: create the repository as a private one; a public one is refused.
        dry_run: check everything, send nothing, make no request.
        progress: called with one line per step.
    Raises: what `sign_off` raises; ConfigError (codes "tag_exists": the tag holds other bytes,
        "others_files": the repository holds files that no release of it lists);
        NetworkError (code "conflict": the repository changed meanwhile), ResourceError.
    """
    signed = sign_off(bundle, repo, tag)
    if dry_run:
        return _result(signed, repo, tag, "", False)
    from huggingface_hub import HfApi

    try:
        commit, changed = _send(HfApi(), signed, repo, tag, private, progress)
    except client_errors() as error:
        if isinstance(error, ZooError):
            raise
        raise explain(error, repo, "", "publish to") from None
    return _result(signed, repo, tag, commit, changed)


def _result(signed: SignedOff, repo: str, tag: str, commit: str, changed: bool) -> Publication:
    return Publication(repo, tag, signed.files, commit, changed, signed.record(repo, commit))


def _send(
    api: HfApi, signed: SignedOff, repo: str, tag: str, private: bool, progress: Report
) -> tuple[str, bool]:
    """The commit that holds the bundle under `tag`, and whether anything was made for it."""
    api.create_repo(repo, private=private, exist_ok=True)
    if private and not api.repo_info(repo).private:
        raise ConfigError(
            f"{repo} is a public repository; nothing was sent. Make it private in its settings, "
            "choose another name, or leave --private out"
        )
    refs = api.list_repo_refs(repo)
    tags = {ref.name: ref.target_commit for ref in refs.tags}
    if tag in tags:
        progress(f"{repo} has {tag} already; comparing")
        _require_same(api, signed, repo, tag, tags[tag])
        return tags[tag], False
    parent = next((ref.target_commit for ref in refs.branches if ref.name == "main"), None)
    there = _digests(api, repo, parent) if parent else {}
    if parent and _differences(signed, there) == []:
        progress(f"{repo} holds these bytes already; tagging commit {parent[:12]}")
        commit = parent
    else:
        _require_ours(api, repo, parent, there)
        total = sum(size for _, size, _ in signed.files)
        progress(f"sending {len(signed.files)} files ({total / 1e6:.1f} MB) to {repo}")
        operations: list[CommitOperationAdd | CommitOperationDelete] = []
        operations += _additions(signed)
        operations += _deletions(signed, there)
        title = f"{signed.manifest.name} {tag}"
        made = api.create_commit(
            repo, operations, commit_message=title, parent_commit=parent, revision="main"
        )
        commit = str(made.oid)
        _require_same(api, signed, repo, "the new commit", commit)
    progress(f"tagging {commit[:12]} as {tag}")
    api.create_tag(repo, tag=tag, revision=commit, exist_ok=False)
    return commit, True


def _require_ours(api: HfApi, repo: str, commit: str | None, there: dict[str, str]) -> None:
    """Raises: ConfigError for files that a release would delete or replace, and that no earlier one
    lists; the card that a new repository begins with apart.
    """
    listed: tuple[str, ...] = ()
    if MANIFEST in there:
        data = Path(api.hf_hub_download(repo, MANIFEST, revision=commit)).read_bytes()
        with contextlib.suppress(ZooError):
            listed = (*parse_manifest(data, MANIFEST).paths, MANIFEST, PROVENANCE)
    strange = sorted(there.keys() - {*listed, *_KEPT, CARD})
    if strange:
        names = ", ".join(strange[:5]) + (" ..." if len(strange) > 5 else "")
        raise ConfigError(
            f"{repo} holds files that no release lists ({ascii(names)[1:-1]}) and would lose; "
            "nothing was sent. Take them out of its main branch, or choose another name",
            code="others_files",
        )


def _additions(signed: SignedOff) -> Iterator[CommitOperationAdd]:
    from huggingface_hub import CommitOperationAdd

    for path, _, _ in signed.files:
        place = str(signed.directory / path)
        content = signed.rewritten.get(path, place)
        yield CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)


def _deletions(signed: SignedOff, there: dict[str, str]) -> Iterator[CommitOperationDelete]:
    """An earlier release's files that this one does not have."""
    from huggingface_hub import CommitOperationDelete

    ours = {path for path, _, _ in signed.files}
    for path in sorted(there.keys() - ours - set(_KEPT)):
        yield CommitOperationDelete(path_in_repo=path)


def _digests(api: HfApi, repo: str, commit: str) -> dict[str, str]:
    """Path -> the digest that the Hub states: SHA-256 of LFS files, git's blob hash of others."""
    from huggingface_hub.hf_api import RepoFile

    entries = api.list_repo_tree(repo, recursive=True, revision=commit)
    files = [entry for entry in entries if isinstance(entry, RepoFile)]
    return {f.path: f.lfs.sha256 if f.lfs is not None else f.blob_id for f in files}


def _differences(signed: SignedOff, there: dict[str, str]) -> list[str]:
    """Paths that differ between the bundle and a commit; provenance.json does not count."""
    ours = {path for path, _, _ in signed.files}
    different = [
        path
        for path, _, digest in signed.files
        if path != PROVENANCE and not _same(signed, path, digest, there.get(path, ""))
    ]
    return sorted({*different, *(there.keys() - ours - {PROVENANCE, *_KEPT})})


def _same(signed: SignedOff, path: str, sha256: str, stated: str) -> bool:
    if len(stated) == 64:
        return stated == sha256
    data = signed.read(path)
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
    return sha256_bytes(data) == sha256 and blob.hexdigest() == stated


def _require_same(api: HfApi, signed: SignedOff, repo: str, what: str, commit: str) -> None:
    different = _differences(signed, _digests(api, repo, commit))
    if not different:
        return
    names = ", ".join(different[:5]) + (" ..." if len(different) > 5 else "")
    if what == "the new commit":
        text = f"{repo} stored other bytes than were sent ({names}); it was not tagged, try again"
        raise NetworkError(text, code="stored")
    raise ConfigError(
        f"{what} of {repo} exists with other bytes ({len(different)} files differ: {names}); "
        "published versions never change, so publish a new version",
        code="tag_exists",
    )
