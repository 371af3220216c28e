"""Exported files in a real browser: parity on WebAssembly and WebGPU, as reports like any other.

    python -m benchmarks.browser [MODEL ...] --out model_cards/measured [--webgpu MODEL ...]

Needs node, the packages of site/gallery (`npm ci --ignore-scripts` there) and Chromium. Writes
OUT/NAME/parity-wasm.json and, for the models after --webgpu, parity-webgpu.json.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from export import ExportSpec, ParityReport, export_model
from export.formats.axes import axes_of
from export.formats.extras import extra_file, extras_in
from export.formats.metadata import describe
from export.formats.outputs import form_with, own_form
from export.graph.preprocessing import IMAGE_NAME
from export.parity.compare import check_named
from export.parity.images import compare_images
from export.parity.measure import References
from export.parity.report import ParityRow
from export.publishing.gallery.collecting import has_attention
from export.publishing.gallery.pages import WEB
from export.publishing.gallery.runtime import PACKAGE, VERSION, runtime_files
from export.spec import INPUT_NAME, PRECISIONS, precision_of
from zoo.files.local import sha256_file, write_text
from zoo.files.provenance import package_versions, provenance

SITE = Path(__file__).resolve().parents[1] / "site" / "gallery"
Array = np.ndarray[Any, Any]


def why_no_node() -> str:
    """What is missing to run scripts of site/gallery, or ""."""
    if shutil.which("node") is None:
        return "there is no node"
    if not (SITE / "node_modules" / "playwright-core").is_dir():
        return "the packages of site/gallery are not installed (npm ci --ignore-scripts there)"
    return ""


def why_no_browser() -> str:
    """What is missing to run a browser, or ""."""
    if missing := why_no_node():
        return missing
    names = ("chromium", "chromium-browser", "google-chrome")
    return "" if any(map(shutil.which, names)) else "there is no Chromium"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder at an address of this machine, ending in a slash, for as long as it lasts."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class Browser:
    """Chromium behind site/gallery/driver.mjs; a context manager."""

    def __enter__(self) -> Browser:
        self._process = subprocess.Popen(
            ["node", "driver.mjs"], cwd=SITE, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()

    def ask(self, op: str, **content: Any) -> Any:
        """The driver's answer. Raises: RuntimeError with its error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"op": op, **content}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the browser's driver ended; see its messages above")
        found = json.loads(line)
        if "error" in found:
            raise RuntimeError(found["error"])
        return found["answer"]


class BrowserFile:
    """An ONNX file in the browser, as the sessions of `export` are used."""

    def __init__(self, browser: Browser, file: str, backend: str, about: Mapping[str, Any]) -> None:
        self._browser, self._file = browser, file
        self.provider = backend
        device = {"device": about["gpu"].get("name", "")} if backend == "webgpu" else {}
        self.attestation = {
            "providers": [backend], "browser": about["browser"], "threads": 1, **device,
        }  # fmt: skip

    def run_named(self, batch: Array) -> dict[str, Array]:
        """Outputs by name of float32 (B, C, H, W) pixels or uint8 (B, H, W, 3) images."""
        name = IMAGE_NAME if batch.dtype == np.uint8 else INPUT_NAME
        data = base64.b64encode(np.ascontiguousarray(batch).tobytes()).decode()
        feeds = {name: {"type": str(batch.dtype), "dims": list(batch.shape), "data": data}}
        found = self._browser.ask("run", backend=self.provider, file=self._file, feeds=feeds)
        return {key: _array(value) for key, value in found["outputs"].items()}


def _array(value: Mapping[str, Any]) -> Array:
    return np.frombuffer(base64.b64decode(value["data"]), np.float32).reshape(value["dims"])


@contextlib.contextmanager
def bench(folder: Path) -> Iterator[tuple[Browser, Mapping[str, Any]]]:
    """A browser on a page that can run the ONNX files in `folder`, and what it is."""
    assets = folder / "assets"
    shutil.copytree(WEB, assets, dirs_exist_ok=True)
    (assets / "ort").mkdir()
    for name, data in runtime_files().items():
        (assets / "ort" / name).write_bytes(data)
    (folder / "blank.html").write_text("<!doctype html><title>bench</title>")
    with served(folder) as base, Browser() as browser:
        yield browser, browser.ask("start", base=base)


def measure(
    browser: Browser, about: Mapping[str, Any], folder: Path, model: Any, backend: str
) -> ParityReport:
    """Every ONNX file of `folder/onnx` against float64.

    Args:
        folder: of an export of `model` with the standard settings, served by `bench`'s server.
        backend: "wasm" or "webgpu"; float16 runs on the latter only with `shader-f16`.
    """
    cfg, spec = describe(model), ExportSpec()
    cfg = replace(cfg, sha256=sha256_file(folder / "model.safetensors"))
    axes = axes_of(model, cfg.input, spec)
    plain = References(own_form(model), cfg, spec, axes)
    rows: list[ParityRow] = []
    proofs: dict[str, Any] = {}
    for file in _files(folder, backend, about):
        run = BrowserFile(browser, f"{folder.name}/{file}", backend, about)
        if file == extra_file("preprocessing"):
            made, levels = compare_images(run, file, plain.form, cfg.input, spec)  # type: ignore[arg-type]
            proofs[file] = {**run.attestation, "grey_levels_from_pillow": levels}
        else:
            references = plain
            if extras_in(file):
                references = References(form_with(model, extras_in(file)), cfg, spec, axes)
            made = check_named(
                run.run_named, references.at(cfg.input.size), file, backend, spec,
                precision_of(file),
            )  # fmt: skip
            proofs[file] = run.attestation
        rows += made
    versions = {**package_versions(), PACKAGE: VERSION}
    return ParityReport(cfg.name, cfg.version, cfg.sha256, tuple(rows), proofs, versions)


def _files(folder: Path, backend: str, about: Mapping[str, Any]) -> list[str]:
    files = sorted(p.relative_to(folder).as_posix() for p in (folder / "onnx").glob("*.onnx"))
    if backend == "wasm":
        return files
    half = [PRECISIONS["float16"]] if about["gpu"]["half"] else []
    return [file for file in files if file in (PRECISIONS["float32"], *half)]


def export_all(model: Any, out: Path) -> None:
    """Every ONNX file that a model has."""
    extras = ["preprocessing", *(["attention"] if has_attention(model) else [])]
    precisions = [name for name in PRECISIONS if name != "float32"]
    export_model(model, out, ("onnx",), precisions=precisions, extras=extras)


def _write(report: ParityReport, out: Path, backend: str, about: Mapping[str, Any]) -> None:
    content = {**json.loads(report.to_json()), **provenance(), "browser": about["browser"]}
    content["command"] = " ".join(["python -m benchmarks.browser", *sys.argv[1:]])
    content["versions"] = report.versions
    path = out / report.name / f"parity-{backend}.json"
    write_text(path, json.dumps(content, indent=2) + "\n")
    worst = max(
        (row for row in report.rows if row.precision == "float32"),
        key=lambda row: row.max_abs_error / row.limit,
    )
    verdict = "pass" if report else "FAIL"
    print(f"{report.name} {backend}: {verdict}; {worst.max_abs_error:.1e} of {worst.limit:.1e}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", help="names; default: all bundled weights")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--webgpu", nargs="*", default=[], metavar="MODEL")
    given = parser.parse_args(arguments)
    if missing := why_no_browser():
        parser.error(missing)
    from zoo.cli.gallery import _bundled

    passed = True
    with tempfile.TemporaryDirectory() as work, bench(Path(work)) as (browser, about):
        for name in given.models or _bundled():
            model = zoo.create_model(name, pretrained=True).eval()
            folder = Path(work) / model.pretrained_cfg.name
            export_all(model, folder)
            wanted = [model.pretrained_cfg.name, model.pretrained_cfg.architecture, name]
            gpu = any(known in given.webgpu for known in wanted)
            for backend in ("wasm", *(["webgpu"] if gpu else [])):
                report = measure(browser, about, folder, model, backend)
                _write(report, given.out, backend, about)
                passed = passed and bool(report)
    return 0 if passed else 7


if __name__ == "__main__":
    raise SystemExit(main())
