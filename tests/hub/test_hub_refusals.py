"""What is refused before anything is published: bundles that are not in order."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.publishing.checks import sign_off
from zoo.errors import ZooError
from zoo.files.manifest import seal

from .client import resign, sha256


def edit(file: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    """A change of a text file after which the manifest is right again."""

    def apply(bundle: Path) -> None:
        path = bundle / file
        path.write_text(change(path.read_text()))
        resign(bundle)

    return apply


def edit_json(file: str, **changes: Any) -> Callable[[Path], None]:
    return edit(file, lambda text: json.dumps({**json.loads(text), **changes}))


def add(file: str, data: bytes) -> Callable[[Path], None]:
    def apply(bundle: Path) -> None:
        (bundle / file).write_bytes(data)
        resign(bundle)

    return apply


def archive(*names: str) -> bytes:
    """A zip file whose members hold no pickle's first bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as written:
        for name in names:
            written.writestr(name, "c__builtin__")
    return content.getvalue()


def unsigned(bundle: Path) -> None:
    (bundle / "onnx" / "model.onnx").write_bytes(b"other")


def version(value: object) -> Callable[[Path], None]:
    """A manifest with another format version; `resign` would undo it."""

    def apply(bundle: Path) -> None:
        path = bundle / "manifest.json"
        path.write_text(seal({**json.loads(path.read_text()), "format_version": value}))

    return apply


def listing(path: str) -> Callable[[Path], None]:
    """A manifest that lists a file under another name."""

    def apply(bundle: Path) -> None:
        manifest = bundle / "manifest.json"
        changed = manifest.read_text().replace('"LICENSE"', json.dumps(path))
        manifest.write_text(seal(json.loads(changed)))

    return apply


def drop_metrics(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if "made up for it" not in line)


REFUSED = {
    "parity failed": (edit_json("parity.json", passed=False), "parity", "parity failed"),
    "parity of other weights": (
        edit_json("parity.json", weights_sha256="0" * 64), "hash", "were written for",
    ),
    "a file without parity": (edit_json("parity.json", rows=[]), "parity", "no result for"),
    "a failing row under a pass": (
        edit_json("parity.json", rows=[{"file": "model.pt", "passed": False}]),
        "parity", "parity failed for model.pt",
    ),
    "changed after signing": (unsigned, "truncated", "onnx/model.onnx has 5 bytes"),
    "an unlisted file": (
        lambda b: (b / "extra.py").write_text("1"), "unlisted", "extra.py",
    ),
    "no licence": (
        edit("README.md", lambda t: t.replace("license: apache-2.0\n", "")), "card", "license",
    ),
    "no citation": (
        edit("README.md", lambda t: t.replace("@inproceedings", "inproceedings")), "card", "BibTeX",
    ),
    "no source of a number": (edit("README.md", drop_metrics), "card", "sources"),
    "unreadable metadata": (
        edit("README.md", lambda t: t.replace("---\n", "---\n[", 1)), "card", "metadata",
    ),
    "a pickle by name": (add("weights.bin", b"x"), "pickle", "weights.bin"),
    "a pickle by content": (add("notes.txt", b"\x80\x04K\x01."), "pickle", "notes.txt"),
    "a pickle by name in an archive": (
        add("notes.dat", archive("notes.txt", "a.pkl")), "pickle", "notes.dat",
    ),
    "no version": (edit("README.md", str), "tag", "v1.0.0"),
    "a newer manifest": (version(2), "manifest_version", "install a newer one"),
    "a broken manifest": (version("x"), "manifest", "format_version must be an integer; got 'x'"),
    "a path out of the folder": (listing("../LICENSE"), "path", "leaves the directory"),
    "an absolute path": (listing("/LICENSE"), "path", "leaves the directory"),
    "a device name": (listing("aux.txt"), "path", "portable"),
    "a trailing dot": (listing("LICENSE."), "path", "portable"),
    "twins on some systems": (listing("readme.md"), "path", "one file on some systems"),
    "a right-to-left mark": (listing("LIC\u202eENSE"), "path", "portable"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_bundle_that_is_not_in_order_is_refused(own_bundle: Path, case: str) -> None:
    change, code, says = REFUSED[case]
    change(own_bundle)
    tag = "v9.9.9" if case == "no version" else "v1.0.0"
    with pytest.raises(ZooError, match=says) as caught:
        sign_off(own_bundle, "org/nano", tag)
    assert caught.value.code == code
    assert len(str(caught.value)) <= 400


@pytest.mark.parametrize("repo", ["nano", "org/nano/x", "../nano", "org/na me", "-org/x"])
def test_a_repository_name_is_checked_before_anything_is_sent(bundle: Path, repo: str) -> None:
    with pytest.raises(ZooError, match="ORG/NAME"):
        sign_off(bundle, repo, "v1.0.0")


def test_an_export_is_not_a_bundle(exported: Path) -> None:
    with pytest.raises(ZooError, match="convattn bundle"):
        sign_off(exported, "org/nano", "v1.0.0")


def test_the_whole_bundle_passes(bundle: Path) -> None:
    signed = sign_off(bundle, "org/nano", "v1.0.0")
    on_disk = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert {path for path, _, _ in signed.files} == on_disk
    for path, size, digest in signed.files:
        data = (bundle / path).read_bytes()
        assert (size, digest) == (len(data), sha256(data))
