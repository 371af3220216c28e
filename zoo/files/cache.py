"""What the zoo keeps on this machine: list it, compare it with its digests, remove it. No torch.

Looked at are repositories of the Hugging Face cache that a weights record, a pin or a manifest of
ours speaks of, and the copy of a mirror's files under ``$CONVATTN_HOME``.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..catalog.references import split_hub_reference
from ..catalog.registry import families, get_record
from ..catalog.weights_records import WeightsRecord
from ..errors import ConfigError, UnknownModelError, ZooError
from .download import digest_like, stated_digest
from .local import home, read_regular_file
from .manifest import FILE as MANIFEST
from .manifest import parse_manifest
from .mirror import Ref
from .partial_downloads import remove_orphans
from .pins import read_pins


@dataclass(frozen=True)
class CachedFile:
    """One file of one commit in the cache.

    Args:
        repo, commit, file: what it is.
        place: where it lies.
        size_bytes: how much it takes.
        digest: SHA-256 (64 digits) or git's blob hash (40) that it must have, or "".
        known_by: what states the digest: the name of a record, "pin", "manifest", "mirror", "hub",
            or "".
    """

    repo: str
    commit: str
    file: str
    place: Path
    size_bytes: int
    digest: str
    known_by: str

    def problem(self) -> str:
        """Read the file and say what is wrong with it: "" if nothing is, or no digest is known."""
        try:
            data = read_regular_file(self.place, "cached file")
        except ZooError as error:
            return str(error)
        found = digest_like(self.digest, data)
        return "" if found == self.digest or not found else f"digest {found}, not {self.digest}"


def list_cache() -> list[CachedFile]:
    """All cached files of models, in order. Reads no content but manifests."""
    return sorted([*_hub_files(), *_mirror_files()], key=lambda f: (f.repo, f.commit, f.file))


def verify_cache() -> list[tuple[CachedFile, str]]:
    """Hash every cached file: each with "" or what is wrong with it."""
    return [(file, file.problem()) for file in list_cache()]


def remove_cached(reference: str) -> int:
    """Delete the cached files of a model or repository; pins stay.

    Args:
        reference: ``ARCH[.TAG][@X.Y.Z]`` or ``org/name@REVISION`` for one commit, ``org/name`` for
            a whole repository.
    Returns: bytes freed. Raises: UnknownModelError if nothing of it is cached, ConfigError.
    """
    repo, revision = _place_in_hub(reference)
    known = [file for file in list_cache() if file.repo == repo]
    commit = _cached_commit(known, repo, revision)
    found = [file for file in known if commit in ("", file.commit)]
    if not found:
        text = f"nothing of {reference!r} is in the cache; `convattn cache list` shows what is"
        raise UnknownModelError(text, code="not_cached")
    snapshots = [p for p in _hub_folder(repo).glob("snapshots/*") if commit not in ("", p.name)]
    shared = {place.resolve() for snapshot in snapshots for place in snapshot.rglob("*")}
    freed = 0
    for file in found:
        blob = file.place.resolve()
        freed += 0 if blob in shared else file.size_bytes
        for part in {blob, file.place} - shared:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
    if not commit:
        for folder in (_hub_folder(repo), home() / "mirror" / repo):
            shutil.rmtree(folder, ignore_errors=True)
    return freed


def remove_partial() -> int:
    """Delete partial downloads of killed processes in all repositories; bytes freed."""
    return sum(remove_orphans(path, 0.0) for path in _hub_cache().glob("models--*/blobs"))


def _cached_commit(known: Sequence[CachedFile], repo: str, revision: str) -> str:
    """The cached commit that a commit, its beginning, a branch or a tag names; "" for all.

    Raises: UnknownModelError if it names none, or several.
    """
    ref = _hub_folder(repo) / "refs" / revision
    named = read_regular_file(ref, "ref").decode().strip() if ref.is_file() else revision
    found = sorted({file.commit for file in known if file.commit.startswith(named)})
    if revision and len(found) != 1:
        text = ", ".join(found) or "none; `convattn cache list` shows them"
        raise UnknownModelError(
            f"{revision!r} must name one cached commit of {repo}; it names {text}",
            code="not_cached",
        )
    return named and found[0]


def _place_in_hub(reference: str) -> tuple[str, str]:
    """Repository and revision ("" for all) of a reference."""
    if "/" in reference:
        repo, revision = split_hub_reference(reference)
        return repo, revision if "@" in reference else ""
    weights = get_record(reference).selected
    if weights is None or weights.bundled:
        raise ConfigError(
            f"{reference!r} has no weights on the Hub; name a record or a repository, ORG/NAME"
        )
    pin = read_pins().get((weights.repo, weights.file))
    if not weights.revision and pin is None:
        raise UnknownModelError(
            f"{weights.name} is not pinned, so nothing says which commit of {weights.repo} it is; "
            "name the repository",
            code="not_cached",
        )
    return weights.repo, weights.revision or (pin.revision if pin else "")


def _records() -> Iterator[WeightsRecord]:
    for family in families().values():
        for name in family.variants:
            yield from (weights for weights in get_record(name).weights if weights.repo)


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _hub_folder(repo: str) -> Path:
    return _hub_cache() / f"models--{repo.replace('/', '--')}"


def _hub_files() -> Iterator[CachedFile]:
    records = list(_records())
    known = {(r.repo, r.revision, r.file): (r.sha256, r.name) for r in records if r.revision}
    known |= {(p.repo, p.revision, p.file): (p.sha256, "pin") for p in read_pins().values()}
    ours = {repo for repo, _, _ in known} | {r.repo for r in records}
    for folder in sorted(_hub_cache().glob("models--*--*")):
        repo = folder.name.removeprefix("models--").replace("--", "/")
        for snapshot in sorted((folder / "snapshots").glob("*")):
            listed = _manifest_digests(snapshot)
            if repo in ours or listed:
                yield from _snapshot_files(repo, snapshot, listed, known)


def _snapshot_files(
    repo: str,
    snapshot: Path,
    listed: Mapping[str, str],
    known: Mapping[tuple[str, str, str], tuple[str, str]],
) -> Iterator[CachedFile]:
    for place in sorted(p for p in snapshot.rglob("*") if p.is_file()):
        file = place.relative_to(snapshot).as_posix()
        digest, by = known.get((repo, snapshot.name, file), ("", ""))
        if not digest and file in listed:
            digest, by = listed[file], "manifest"
        if not digest:
            digest = stated_digest(place)
            by = "hub" if digest else ""
        with contextlib.suppress(FileNotFoundError):  # another process removes it
            size = place.stat().st_size
            yield CachedFile(repo, snapshot.name, file, place, size, digest, by)


def _manifest_digests(snapshot: Path) -> dict[str, str]:
    """Path -> digest in a snapshot's manifest.json, if it has one of ours."""
    with contextlib.suppress(ZooError):
        data = read_regular_file(snapshot / MANIFEST, MANIFEST)
        return {path: digest for path, _, digest in parse_manifest(data, MANIFEST).files}
    return {}


def _mirror_files() -> Iterator[CachedFile]:
    root = home() / "mirror"
    for folder in sorted(root.glob("*/*/resolve/*")):
        repo = folder.parent.parent.relative_to(root).as_posix()
        digests = _ref_digests(root / repo / "refs" / f"{folder.name}.json")
        for record in _records():
            if (record.repo, record.revision) == (repo, folder.name):
                digests.setdefault(record.file, (record.sha256, record.name))
        for place in sorted(p for p in folder.rglob("*") if p.is_file()):
            file = place.relative_to(folder).as_posix()
            if place.name.startswith("."):
                continue
            digest, by = digests.get(file, ("", ""))
            with contextlib.suppress(FileNotFoundError):
                size = place.stat().st_size
                yield CachedFile(repo, folder.name, file, place, size, digest, by)


def _ref_digests(path: Path) -> dict[str, tuple[str, str]]:
    with contextlib.suppress(ZooError):
        ref = Ref.from_json(read_regular_file(path), str(path))
        return {file: (digest, "mirror") for file, (_, digest) in ref.files.items()}
    return {}
