"""What a bundle must be before it is published: whole, verified, described, and without pickles."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

from zoo.catalog.checked_json import Document
from zoo.catalog.registry import get_record, weights_from_dict
from zoo.errors import ConfigError, IntegrityError, ParityError, UnknownModelError
from zoo.factory.config_json import read_config
from zoo.files.json_text import to_json
from zoo.files.listed import read_document, read_listed
from zoo.files.local import sha256_bytes, sha256_file
from zoo.files.manifest import FILE as MANIFEST
from zoo.files.manifest import Manifest, check_files, check_portable, read_manifest
from zoo.files.places import Directory

from ..cards import check_card, placeholder, with_repo
from .names import CARD, PROCESSOR, PROVENANCE, check_repo

NEEDED = (CARD, "LICENSE", "config.json", "model.safetensors", "parity.json", PROCESSOR)
TORCHSCRIPT = "model.pt"
_PICKLES = (
    ".pkl",
    ".pickle",
    ".pt",
    ".pth",
    ".bin",
    ".ckpt",
    ".joblib",
    ".tar",
    ".npy",
    ".npz",
    ".dill",
)
_PROTOCOL = re.compile(rb"\x80[\x02-\x05]")


@dataclass(frozen=True)
class SignedOff:
    """A bundle that passed `sign_off`.

    Args:
        directory: the bundle.
        manifest, config: parsed manifest.json and config.json.
        files: (path, size in bytes, SHA-256) of everything to publish, manifest.json included.
        rewritten: path -> content, where it is not the file's: what names the repository.
    """

    directory: Path
    manifest: Manifest
    config: dict[str, Any]
    files: tuple[tuple[str, int, str], ...]
    rewritten: Mapping[str, bytes] = field(default_factory=dict)

    def read(self, path: str) -> bytes:
        """What is published under a path."""
        found = self.rewritten.get(path)
        return (self.directory / path).read_bytes() if found is None else found

    def record(self, repo: str, commit: str) -> dict[str, Any]:
        """The weights record as JSON values; without a commit it has no revision."""
        own, config = self.config["convattn"], self.config
        overrides = {**config.get("model_args", {})}
        known = get_record(own["architecture"])
        if config["num_classes"] != known.config.get("num_classes", 1000):
            overrides["num_classes"] = config["num_classes"]
        sizes = {path: size for path, size, _ in self.files}
        digests = {path: digest for path, _, digest in self.files}
        values = {
            "model": own["architecture"],
            "tag": own["tag"],
            "version": self.manifest.version,
            "architecture_versions": [self.manifest.architecture_version],
            "repo": repo,
            "revision": commit or "0" * 40,
            "file": "model.safetensors",
            "size_bytes": sizes["model.safetensors"],
            "sha256": digests["model.safetensors"],
            "manifest_sha256": digests[MANIFEST],
            "overrides": overrides,
            "input": {key: config["pretrained_cfg"][key] for key in known.input.to_dict()},
            "labels": own["labels"],
            "licence": own["licence"],
        }
        weights_from_dict(values)  # the registry must be able to read it
        return values if commit else {**values, "revision": None}


def sign_off(bundle: str | Path, repo: str, tag: str) -> SignedOff:
    """Check everything that can be checked without the network.

    Raises: ConfigError (codes "repo", "tag", "version", "unregistered", "incomplete", "card",
        "pickle"), IntegrityError (a digest differs, or a file that nobody signed for),
        ParityError (the verdict is not a pass), UnknownModelError (no bundle).
    """
    directory = Path(bundle)
    manifest = read_manifest(directory)
    check_files(directory, manifest)
    _check_complete(directory, manifest)
    config = read_config(Directory(str(directory)))
    _check_names(repo, tag, manifest, config)
    _check_parity(directory, manifest, config)
    rewritten = _for_repo(directory, config, manifest.name, repo)
    manifest = _signed_again(manifest, rewritten)
    if rewritten:
        rewritten[MANIFEST] = manifest.to_json().encode()
    card = rewritten.get(CARD) or read_listed(directory / CARD, CARD)
    check_card(card.decode("utf-8", errors="replace"))
    refuse_pickles(directory, manifest.paths)
    extra = [name for name in (MANIFEST, PROVENANCE) if (directory / name).is_file()]
    added = [(n, (directory / n).stat().st_size, sha256_file(directory / n)) for n in extra]
    if rewritten:
        own = rewritten[MANIFEST]
        added[0] = (MANIFEST, len(own), sha256_bytes(own))
    files = tuple(sorted([*manifest.files, *added]))
    return SignedOff(directory, manifest, config, files, rewritten)


def _for_repo(directory: Path, config: dict[str, Any], name: str, repo: str) -> dict[str, bytes]:
    """The files that name the repository, for this one: the card, and config.json. The bundle's own
    files stay as they are.
    """
    before = str(config.get("convattn", {}).get("repo") or placeholder(name))
    if before == repo:
        return {}
    text = read_listed(directory / CARD, CARD).decode("utf-8", errors="replace")
    if with_repo(text, before, repo) == text:
        return {}
    config["convattn"]["repo"] = repo
    return {
        CARD: with_repo(text, before, repo).encode(),
        "config.json": (to_json(config, indent=2, ensure_ascii=False) + "\n").encode(),
    }


def _signed_again(manifest: Manifest, rewritten: Mapping[str, bytes]) -> Manifest:
    files = tuple(
        (path, len(rewritten[path]), sha256_bytes(rewritten[path]))
        if path in rewritten
        else (path, size, digest)
        for path, size, digest in manifest.files
    )
    return replace(manifest, files=files)


def _check_complete(directory: Path, manifest: Manifest) -> None:
    missing = [name for name in NEEDED if name not in manifest.paths]
    if missing:
        raise ConfigError(
            f"{str(directory)!r} is not a bundle: it lacks {', '.join(missing)}; write one with "
            "`convattn bundle MODEL --out DIR`",
            code="incomplete",
        )
    found = {p.relative_to(directory).as_posix() for p in directory.rglob("*") if not p.is_dir()}
    extra = sorted(found - set(manifest.paths) - {MANIFEST, PROVENANCE})
    if extra:
        raise IntegrityError(
            f"{str(directory)!r} holds files that {MANIFEST} does not list: {extra[:5]!a}; "
            "remove them, or write the bundle again",
            code="unlisted",
        )
    check_portable(manifest.paths, MANIFEST)


def _check_names(repo: str, tag: str, manifest: Manifest, config: dict[str, Any]) -> None:
    if not repo:
        raise ConfigError("--repo must be ORG/NAME; got nothing", code="repo")
    check_repo(repo)
    if not manifest.version:
        raise ConfigError(
            f"{manifest.name} has no version; bundle it again with --version X.Y.Z", code="version"
        )
    if tag != f"v{manifest.version}":
        raise ConfigError(f"the tag of this bundle is v{manifest.version}; got {tag!r}", code="tag")
    own = config.get("convattn", {})
    try:
        get_record(own.get("architecture", ""))
    except UnknownModelError:
        raise ConfigError(
            f"{manifest.name} is no architecture of the registry, so no record could load it",
            code="unregistered",
        ) from None
    if own.get("version") != manifest.version or own.get("name") != manifest.name:
        raise IntegrityError("config.json and manifest.json name different weights; bundle again")


class _Row(TypedDict):
    file: str
    passed: bool


class _Verdict(TypedDict):
    passed: bool
    weights_sha256: str
    rows: list[_Row]


PARITY = Document(_Verdict, "parity report", "parity", "export again", ParityError)


def _check_parity(directory: Path, manifest: Manifest, config: dict[str, Any]) -> None:
    """The verdict must be a pass, for these weights and for every exported file."""
    parity = read_document(PARITY, directory / "parity.json")
    rows = [(row["file"], row["passed"]) for row in parity["rows"]]
    passed, digest = parity["passed"], parity["weights_sha256"]
    exported = [p for p in manifest.paths if p.endswith((".onnx", ".pt", ".pt2"))]
    failing = sorted({file for file, good in rows if not good})
    unseen = sorted(set(exported) - {file for file, _ in rows})
    if not passed or failing:
        names = ", ".join(failing) or "its verdict"
        raise ParityError(f"parity failed for {names}; export again, nothing is published")
    if unseen or not rows:
        text = f"parity.json has no result for {', '.join(unseen) or 'any file'}; export again"
        raise ParityError(text)
    weights = manifest.digest("model.safetensors")
    if {digest, config.get("convattn", {}).get("weights_sha256")} != {weights}:
        text = "model.safetensors is not what config.json and parity.json were written for"
        raise IntegrityError(f"{text}; bundle again", code="hash")


def refuse_pickles(directory: Path, paths: tuple[str, ...]) -> None:
    """Refuse files that run code when they are read, TorchScript's model.pt apart.

    Raises: ConfigError, code "pickle".
    """
    for path in paths:
        if path != TORCHSCRIPT and _holds_pickle(directory / path):
            raise ConfigError(
                f"{path} is a pickle or holds one, which runs code when it is read; only "
                f"{TORCHSCRIPT} may: save tensors as safetensors",
                code="pickle",
            )


def _holds_pickle(path: Path) -> bool:
    if path.suffix.lower() in _PICKLES:
        return True
    with open(path, "rb") as handle:
        head = handle.read(2)
    if _PROTOCOL.match(head):
        return True
    if head != b"PK" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        return any(n.endswith(_PICKLES) or _PROTOCOL.match(_head(archive, n)) for n in names)


def _head(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as member:
        return member.read(2)
