"""onnxruntime-web, pinned: the files of it that a gallery serves, each from one verified tarball.

npm fetches the tarball from the registry that it is set up for; its SHA-512 is compared with the
one pinned here (the same as in site/gallery/package-lock.json) on every use, also from the cache.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from zoo.errors import IntegrityError, MissingDependencyError, NetworkError
from zoo.files.local import home, read_regular_file, write_bytes

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
INTEGRITY = "sha512-" + (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
WASM = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")  # what the first load takes
WEBGPU = ("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
_TARBALL = f"{PACKAGE}-{VERSION}.tgz"
_LICENCE = """onnxruntime-web {version}, MIT License, Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def runtime_files(tarball: Path | None = None, smallest: bool = False) -> Mapping[str, bytes]:
    """Name -> content of the runtime's files, WebAssembly packed (.wasm.gz): pages unpack it
    themselves, so that its weight does not depend on how a server is set up.

    Args:
        tarball: of onnxruntime-web, as `npm pack` writes it; None fetches it once into the cache.
        smallest: pack what the first load takes with Zopfli: 4 % smaller (3.50 MB), half a minute.
    Raises: IntegrityError (its SHA-512 is not the pinned one), MissingDependencyError (no npm, no
        zopfli), NetworkError, NotFoundError.
    """
    data = read_regular_file(tarball, "tarball") if tarball else _cached()
    _check(data, str(tarball or _TARBALL))
    found = {"LICENSE.txt": _LICENCE.format(version=VERSION).encode()}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for name in (*WASM, *WEBGPU):
            member = archive.extractfile(f"package/dist/{name}")
            content = member.read() if member else b""
            if name.endswith(".wasm"):
                content = _packed(content, smallest and name in WASM)
                name = f"{name}.gz"
            found[name] = content
    return found


def _packed(content: bytes, smallest: bool) -> bytes:
    if not smallest:
        return gzip.compress(content, 9, mtime=0)
    try:
        from zopfli import gzip as zopfli
    except ImportError as exc:
        raise MissingDependencyError(
            "the smallest runtime is packed by zopfli, which is not installed: "
            "pip install 'convattn-zoo[docs]', or leave out --smallest"
        ) from exc
    packed: bytes = zopfli.compress(content, numiterations=3)
    return packed


def _check(data: bytes, what: str) -> None:
    digest = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    if digest != INTEGRITY:
        raise IntegrityError(
            f"{what} is not {PACKAGE} {VERSION}: its SHA-512 differs from the pinned one; remove "
            f"it, or pass the tarball that `npm pack {PACKAGE}@{VERSION}` writes",
            code="hash",
        )


def _cached() -> bytes:
    path = home() / "web" / _TARBALL
    if not path.is_file():
        write_bytes(path, _fetched())
    return read_regular_file(path, "tarball")


def _fetched() -> bytes:
    npm = shutil.which("npm")
    wanted = f"{PACKAGE}@{VERSION}"
    if npm is None:
        raise MissingDependencyError(
            f"the gallery runs on {wanted}, and there is no npm to fetch it with: install npm, or "
            f"pass the tarball that `npm pack {wanted}` writes elsewhere with --runtime FILE",
            code="npm",
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", wanted, "--ignore-scripts", "--pack-destination", folder]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        file = Path(folder) / _TARBALL
        if done.returncode or not file.is_file():
            reason = next((line for line in done.stderr.splitlines() if line.strip()), "no reason")
            raise NetworkError(
                f"npm could not fetch {wanted} ({reason.strip()[:120]}); fetch it elsewhere and "
                f"pass --runtime FILE{os.linesep}"[:290].rstrip()
            )
        data = file.read_bytes()
    _check(data, wanted)
    return data
