"""Fetch weights ahead of use, or into a mirror for machines without internet. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..catalog.arguments import check_flags
from ..catalog.records import ModelRecord
from ..catalog.references import kind_of, split_hub_reference
from ..catalog.registry import get_record
from ..catalog.weights_records import WeightsRecord
from ..errors import ConfigError, IntegrityError, NoWeightsError
from .local import read_regular_file, sha256_bytes, write_bytes
from .manifest import FILE as MANIFEST
from .manifest import parse_manifest
from .pins import Pin, _locked, _log, _write, read_pins, require_pinned, verify_bytes

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
        to: also write them there as a mirror (`zoo.files.mirror`).
        everything: every file that the repository's manifest lists, not config and weights alone.
    Raises: UnknownModelError, NoWeightsError; ConfigError for another kind of reference;
        IntegrityError, NetworkError, ResourceError.
    """
    check_flags(everything=everything)
    folder, kind = None if to is None else Path(to).absolute(), kind_of(reference)
    if kind == "hf-hub":
        return _fetch_repository(reference, folder, everything)
    if kind != "name":
        raise ConfigError(
            f"{reference!r} cannot be fetched; expected ARCH[.TAG][@X.Y.Z] or hf-hub:org/name"
        )
    record = get_record(reference)
    weights = _weights_of(record)
    if weights.bundled:
        if everything:
            raise ConfigError(
                f"{weights.name} comes with the package, which holds the weights alone; `convattn "
                f"export {weights.name} --out DIR` writes the other files"
            )
        return _copy_bundled(weights, folder)
    return _fetch_record(weights, folder, everything)


def _weights_of(record: ModelRecord) -> WeightsRecord:
    if record.selected is not None:
        return record.selected
    if record.checkpoint is not None:
        raise NoWeightsError(record.checkpoint.how_to_import, code="import_first")
    raise NoWeightsError(f"{record.name} has no weights to fetch; `convattn list --pretrained`")


def _copy_bundled(weights: WeightsRecord, folder: Path | None) -> Fetched:

    data = fetch(weights)
    if folder is not None:
        write_bytes(folder / "bundled" / weights.bundled, data)
    files = ((weights.bundled, len(data), weights.sha256),)
    place = BUNDLED if folder is None else folder / "bundled"
    return Fetched(weights.name, "package", files, place)


def _fetch_record(weights: WeightsRecord, folder: Path | None, everything: bool) -> Fetched:
    from .download import download_verified

    pin = pin_on_first_use(weights.repo, weights.file) if weights.pinned_on_first_use else weights
    revision = "main" if weights.pinned_on_first_use else f"v{weights.version}"

    def contents() -> Iterator[tuple[str, bytes]]:
        yield weights.file, download_verified(pin)
        if folder is not None or everything:
            listed = _companions(pin.repo, pin.revision, everything, weights.manifest_sha256)
            yield from ((path, data) for path, data in listed if path != weights.file)

    return _collect(weights.name, pin.repo, pin.revision, contents(), (folder, revision))


def _fetch_repository(reference: str, folder: Path | None, everything: bool) -> Fetched:
    from .places import Repository

    place = Repository.find(reference)

    def contents() -> Iterator[tuple[str, bytes]]:
        files = [CONFIG, WEIGHTS]
        yield from ((path, place.read(path)) for path in files)
        listed = _companions(place.repo, place.commit, everything, "")
        yield from ((path, data) for path, data in listed if path not in files)

    revision = split_hub_reference(reference)[1]
    return _collect(
        f"hf-hub:{place.repo}", place.repo, place.commit, contents(), (folder, revision)
    )


def _companions(
    repo: str, commit: str, everything: bool, manifest_sha256: str
) -> Iterator[tuple[str, bytes]]:
    """The files beside the weights: config.json and manifest.json, if the repository has them; with
    `everything` all that the manifest lists.
    """
    from .download import fetch_file
    from .places import fetch_optional

    data = fetch_optional(repo, MANIFEST, commit, manifest_sha256)
    if data is None and everything:
        text = f"{repo} has no {MANIFEST}, so what else belongs to it is not known"
        raise NoWeightsError(f"{text}; fetch without --all", code="no_manifest")
    if data is None:
        config = fetch_optional(repo, CONFIG, commit)
        yield from [(CONFIG, config)] if config is not None else []
        return
    yield MANIFEST, data
    for path, _, digest in parse_manifest(data, f"{MANIFEST} of {repo}").files:
        if everything or path == CONFIG:
            yield path, fetch_file(repo, path, commit, sha256=digest)[0]


def _collect(
    name: str,
    repo: str,
    commit: str,
    contents: Iterator[tuple[str, bytes]],
    to: tuple[Path | None, str],
) -> Fetched:
    """Take verified files as they come; write them and their references to a mirror, if asked."""
    from .download import place_of
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


def pin_on_first_use(repo: str, file: str = "model.safetensors") -> Pin:
    """The pin of a file whose digest was not published: from the lock file, else taken now.

    Taking it downloads and verifies the newest commit, writes the lock file and logs a warning.
    From then on `download_verified(pin)` accepts only these bytes of that commit.

    Raises: IntegrityError (code "unpinned") without a pin under CONVATTN_REQUIRE_PINNED;
        ConfigError for a damaged lock file; and what `zoo.files.download.fetch_file` raises.
    """
    known = read_pins().get((repo, file))
    if known is not None:
        return known
    if require_pinned():
        text = "has no pin and CONVATTN_REQUIRE_PINNED is set; load it once without the variable"
        raise IntegrityError(f"{file} of {repo} {text}", code="unpinned")
    return _take(repo, file, replace=False)


def update_pin(repo: str, file: str = "model.safetensors") -> Pin:
    """Pin the newest commit, whatever was pinned before. Raises: as `pin_on_first_use`."""
    return _take(repo, file, replace=True)


def _take(repo: str, file: str, replace: bool) -> Pin:
    from .download import fetch_file

    data, commit = fetch_file(repo, file)
    sha256 = sha256_bytes(data)
    pin = Pin(repo=repo, file=file, revision=commit, sha256=sha256, size_bytes=len(data))
    with _locked():
        pins = read_pins()  # again: another process may have pinned meanwhile, and the first holds
        if not replace and (repo, file) in pins:
            return pins[repo, file]
        pins[repo, file] = pin
        _write(pins)
    message = "pinned %s of %s on first use: commit %s, SHA-256 %s; a change will be an error"
    _log.warning(message, file, repo, commit, sha256)
    return pin


BUNDLED = Path(__file__).parents[1] / "catalog" / "shipped" / "weights"


def fetch(record: WeightsRecord) -> bytes:
    """The verified bytes of a weights file, from the package or from the Hub.

    Raises: IntegrityError (size or digest differ, or not pinned yet where that is required),
        NetworkError, ResourceError.
    """
    if record.bundled:
        data = read_regular_file(BUNDLED / record.bundled, "weights file")
        verify_bytes(data, record)
        return data
    from .download import download_verified

    if record.pinned_on_first_use:
        return download_verified(pin_on_first_use(record.repo, record.file))
    return download_verified(record)
