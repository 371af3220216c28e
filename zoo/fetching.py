"""Fetch weights ahead of use, or into a mirror for machines without internet. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ConfigError, IntegrityError, NetworkError, NoWeightsError
from .files import sha256_bytes, write_bytes
from .manifest import FILE as MANIFEST
from .manifest import parse_manifest
from .records import ModelRecord, WeightsRecord

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Fetched:
    """What `fetch_model` made sure of.

    Args:
        name: of the weights or the repository.
        where: "package", or the repository and its commit.
        files: (path, size in bytes, SHA-256), all verified.
        directory: of the files; in a mirror it is a model reference if config.json is among them.
    """

    name: str
    where: str
    files: tuple[tuple[str, int, str], ...]
    directory: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        files = [{"path": p, "size_bytes": n, "sha256": digest} for p, n, digest in self.files]
        return {
            "name": self.name,
            "where": self.where,
            "directory": str(self.directory),
            "files": files,
        }


def fetch_model(reference: str, to: str | Path | None = None, everything: bool = False) -> Fetched:
    """Download and verify the weights of a model, or find them verified in the package or cache.

    Args:
        reference: ``ARCH[.TAG][@X.Y.Z]`` or ``hf-hub:org/name[@revision]``.
        to: also write them there as a mirror (`zoo.mirror`).
        everything: every file that the repository's manifest lists, not config and weights alone.
    Raises: UnknownModelError, NoWeightsError; ConfigError for another kind of reference;
        IntegrityError, NetworkError, ResourceError.
    """
    from .references import is_registry_name
    from .registry import get_record

    folder = None if to is None else Path(to).absolute()
    if reference.startswith("hf-hub:"):
        from .hub_models import split_hub_reference

        return _fetch_repository(*split_hub_reference(reference[7:]), folder, everything)
    if not is_registry_name(reference):
        raise ConfigError(
            f"{reference!r} cannot be fetched; expected ARCH[.TAG][@X.Y.Z] or hf-hub:org/name"
        )
    record = get_record(reference)
    weights = _weights_of(record)
    if weights.bundled:
        return _copy_bundled(weights, folder)
    return _fetch_record(weights, folder, everything)


def _weights_of(record: ModelRecord) -> WeightsRecord:
    if record.selected is not None:
        return record.selected
    if record.checkpoint is not None:
        raise NoWeightsError(record.checkpoint.how_to_import, code="import_first")
    raise NoWeightsError(f"{record.name} has no weights to fetch; `convattn list --pretrained`")


def _copy_bundled(weights: WeightsRecord, folder: Path | None) -> Fetched:
    from .weights import BUNDLED, fetch

    data = fetch(weights)
    if folder is not None:
        write_bytes(folder / "bundled" / weights.bundled, data)
    files = ((weights.bundled, len(data), weights.sha256),)
    place = BUNDLED if folder is None else folder / "bundled"
    return Fetched(weights.name, "package", files, place)


def _fetch_record(weights: WeightsRecord, folder: Path | None, everything: bool) -> Fetched:
    from .hub import download_verified
    from .pins import pin_on_first_use

    pin = pin_on_first_use(weights.repo, weights.file) if weights.pinned_on_first_use else weights
    revision = "main" if weights.pinned_on_first_use else f"v{weights.version}"

    def contents() -> Iterator[tuple[str, bytes]]:
        yield weights.file, download_verified(pin)
        if folder is not None or everything:
            listed = _companions(pin.repo, pin.revision, everything, weights.manifest_sha256)
            yield from ((path, data) for path, data in listed if path != weights.file)

    return _collect(weights.name, pin.repo, pin.revision, contents(), (folder, revision))


def _fetch_repository(repo: str, revision: str, folder: Path | None, everything: bool) -> Fetched:
    from .hub import fetch_file

    config, commit = fetch_file(repo, CONFIG, revision)

    def contents() -> Iterator[tuple[str, bytes]]:
        yield CONFIG, config
        yield WEIGHTS, fetch_file(repo, WEIGHTS, commit)[0]
        listed = _companions(repo, commit, everything, "")
        yield from ((path, data) for path, data in listed if path not in (CONFIG, WEIGHTS))

    return _collect(f"hf-hub:{repo}", repo, commit, contents(), (folder, revision))


def _companions(
    repo: str, commit: str, everything: bool, manifest_sha256: str
) -> Iterator[tuple[str, bytes]]:
    """The files beside the weights: config.json and manifest.json, if the repository has them; with
    `everything` all that the manifest lists.
    """
    from .hub import fetch_file

    data = _optional(repo, MANIFEST, commit, manifest_sha256)
    if data is None and everything:
        text = f"{repo} has no {MANIFEST}, so what else belongs to it is not known"
        raise NoWeightsError(f"{text}; fetch without --all", code="no_manifest")
    if data is None:
        config = _optional(repo, CONFIG, commit)
        yield from [(CONFIG, config)] if config is not None else []
        return
    yield MANIFEST, data
    for path, _, digest in parse_manifest(data, f"{MANIFEST} of {repo}").files:
        if everything or path == CONFIG:
            yield path, fetch_file(repo, path, commit, sha256=digest)[0]


def _optional(repo: str, file: str, commit: str, sha256: str = "") -> bytes | None:
    """A file, or None if the repository does not have it. Raises: as `zoo.hub.fetch_file`."""
    from .hub import fetch_file

    try:
        return fetch_file(repo, file, commit, sha256)[0]
    except NetworkError as error:
        if error.code != "no_file":
            raise
    if sha256:
        text = f"{repo} lacks {file}, which its record pins"
        raise IntegrityError(f"{text}; it was changed after publishing", code="missing")
    return None


def _collect(
    name: str,
    repo: str,
    commit: str,
    contents: Iterator[tuple[str, bytes]],
    to: tuple[Path | None, str],
) -> Fetched:
    """Take verified files as they come; write them and their references to a mirror, if asked."""
    from .hub import place_of
    from .mirror import Ref, write_references

    folder, revision = to
    files = []
    for path, data in contents:
        files.append((path, len(data), sha256_bytes(data)))
        if folder is not None:
            write_bytes(folder / repo / "resolve" / commit / path, data)
    if folder is not None:
        ref = Ref(repo, commit, {path: (size, digest) for path, size, digest in files})
        write_references(folder, ref, (revision,))
        place = folder / repo / "resolve" / commit
    else:
        first = files[0][0]
        place = place_of(repo, first, commit).parents[first.count("/")]
    return Fetched(name, f"{repo} at {commit}", tuple(sorted(files)), place)
