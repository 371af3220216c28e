"""onnxruntime-web: pinned once, verified on every use."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from export.publishing.gallery import runtime
from zoo.errors import IntegrityError, MissingDependencyError

SITE = Path(__file__).resolve().parents[3] / "site" / "gallery"


def tarball(files: dict[str, bytes]) -> bytes:
    """As npm packs them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def test_the_pin_is_the_one_of_the_lock_file() -> None:
    locked = json.loads((SITE / "package-lock.json").read_text())["packages"]
    found = locked[f"node_modules/{runtime.PACKAGE}"]
    assert (found["version"], found["integrity"]) == (runtime.VERSION, runtime.INTEGRITY)


def test_another_tarball_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runtime.tgz"
    path.write_bytes(tarball({name: b"else" for name in (*runtime.WASM, *runtime.WEBGPU)}))
    with pytest.raises(IntegrityError, match="SHA-512 differs"):
        runtime.runtime_files(path)


def test_a_damaged_cache_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATTN_HOME", str(tmp_path))
    cached = tmp_path / "web" / f"{runtime.PACKAGE}-{runtime.VERSION}.tgz"
    cached.parent.mkdir()
    cached.write_bytes(b"cut short")
    with pytest.raises(IntegrityError, match="remove it"):
        runtime.runtime_files()


def test_without_npm_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATTN_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="--runtime FILE"):
        runtime.runtime_files()


def test_webassembly_is_packed_whatever_the_server_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = " ".join(str(n * n) for n in range(3000)).encode()
    files = {name: name.encode() + code for name in (*runtime.WASM, *runtime.WEBGPU)}
    path = tmp_path / "runtime.tgz"
    path.write_bytes(tarball(files))
    monkeypatch.setattr(runtime, "_check", lambda data, what: None)
    found = runtime.runtime_files(path)
    assert found["ort.wasm.bundle.min.mjs"] == b"ort.wasm.bundle.min.mjs" + code
    packed = found["ort-wasm-simd-threaded.wasm.gz"]
    assert gzip.decompress(packed) == b"ort-wasm-simd-threaded.wasm" + code
    assert "MIT License" in found["LICENSE.txt"].decode()
    smallest = runtime.runtime_files(path, smallest=True)["ort-wasm-simd-threaded.wasm.gz"]
    assert len(smallest) < len(packed)
    assert gzip.decompress(smallest) == gzip.decompress(packed)
