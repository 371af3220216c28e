"""Write an export directory: weights, config, exported files, test vectors, parity report,
manifest.

Everything is written into a hidden folder beside its place and moved there only when every file has
passed; manifest.json comes last. A failing verdict leaves the directory as it was.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ConfigError, ZooError
from zoo.files import make_directory, resource_error, sha256_bytes
from zoo.manifest import FILE as MANIFEST
from zoo.manifest import Manifest, make_manifest, read_manifest
from zoo.references import build_config
from zoo.weights import weights_bytes

from .onnx_export import (
    describe,
    package_versions,
    reference_for,
    require_parity,
    write_onnx,
)
from .parity import ParityReport, ParityRow, check_parity
from .reference import Reference
from .samples import TestInputs
from .spec import ExportSpec

if TYPE_CHECKING:
    from torch import nn

FORMATS = {"onnx": "onnx/model.onnx", "torchscript": "model.pt"}
TEST_DATA = "test_data_set_0"
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ExportResult:
    """What `export_model` wrote.

    Args:
        directory: where.
        report: the passing parity report.
        manifest: all files with size and digest.
    """

    directory: Path
    report: ParityReport
    manifest: Manifest


def export_model(
    model: nn.Module,
    out: str | Path,
    formats: Sequence[str] = ("onnx", "torchscript"),
    spec: ExportSpec | None = None,
) -> ExportResult:
    """Export a model of the zoo into a directory and verify every file against float64.

    The model is copied, never changed.

    Args:
        out: directory; created if needed. Files of an earlier export there are replaced.
        formats: of "onnx" and "torchscript".
    Raises: ParityError (its `report` attribute has the rows), ExportError, ResourceError,
        ConfigError.
    """
    spec = spec or ExportSpec()
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ConfigError(f"formats are {', '.join(FORMATS)}; got {list(formats)}")
    weights = weights_bytes(model)
    cfg = replace(describe(model), sha256=sha256_bytes(weights))
    config = build_config(model, cfg.sha256)
    out = make_directory(out)
    reference = reference_for(model, cfg, spec)
    with _staging(out) as folder:
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        _write_test_data(folder / TEST_DATA, reference)
        rows: list[ParityRow] = []
        attestation: dict[str, Any] = {}
        for name in formats:
            made, proof = _write_format(name, model, folder, cfg, spec, reference)
            rows += made
            attestation |= proof
        report = ParityReport(
            cfg.name, cfg.version, cfg.sha256, tuple(rows), attestation, package_versions()
        )
        require_parity(report)
        (folder / "parity.json").write_text(report.to_json())
        manifest = make_manifest(
            folder, _files_in(folder), cfg.name, cfg.version, cfg.architecture_version
        )
        (folder / MANIFEST).write_text(manifest.to_json())
        _move(folder, out, manifest)
    return ExportResult(out, report, manifest)


def _write_format(
    name: str, model: nn.Module, folder: Path, cfg: Any, spec: ExportSpec, reference: Reference
) -> tuple[tuple[ParityRow, ...], dict[str, Any]]:
    from .runtime import open_onnx
    from .torchscript_export import load_torchscript, write_torchscript

    file = FORMATS[name]
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    if name == "onnx":
        write_onnx(model, path, cfg, spec)
        session = open_onnx(path)
        rows = check_parity(session.run, reference, file, session.provider, spec)
        return rows, {file: session.attestation}
    write_torchscript(model, path, cfg, spec)
    run, _ = load_torchscript(path)
    return check_parity(run, reference, file, "torch-cpu", spec), {}


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    folder = out / f".export-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        folder.mkdir()
        yield folder
    except ZooError:
        raise
    except OSError as error:
        raise resource_error(error, out) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _move(folder: Path, out: Path, manifest: Manifest) -> None:
    """Move staged files to their names, manifest last; drop files that only an old manifest
    lists.
    """
    old: set[str] = set()
    if (out / MANIFEST).is_file():
        try:
            old = {p for p in read_manifest(out).paths if p.startswith(("onnx/", "model.pt"))}
        except ZooError:
            old = set()
        (out / MANIFEST).unlink()
    for path in (*manifest.paths, MANIFEST):
        with open(folder / path, "rb+") as handle:
            os.fsync(handle.fileno())
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / path, out / path)
    for path in old - set(manifest.paths):
        (out / path).unlink(missing_ok=True)


def _write_test_data(folder: Path, reference: Reference) -> None:
    """Inputs and float64 reference logits as ONNX test vectors, with eager float32's error."""
    folder.mkdir()
    _write_tensor(folder / "input_0.pb", "pixel_values", reference.inputs.batch)
    _write_tensor(folder / "output_0.pb", "logits", reference.logits)
    _write_tensor(folder / "eager_float32_error.pb", "eager_float32_error", reference.eager_error)
    kinds = json.dumps({"kinds": list(reference.inputs.kinds)}) + "\n"
    (folder / "samples.json").write_text(kinds)


def _write_tensor(path: Path, name: str, array: Array) -> None:
    from onnx import numpy_helper

    path.write_bytes(numpy_helper.from_array(np.ascontiguousarray(array), name).SerializeToString())


def read_test_data(directory: Path) -> Reference:
    """The stored reference of an export directory; needs no torch. Raises: ResourceError."""
    import onnx
    from onnx import numpy_helper

    from zoo.files import read_regular_file

    def read(name: str) -> Array:
        data = read_regular_file(directory / TEST_DATA / name, "test vector")
        return numpy_helper.to_array(onnx.TensorProto.FromString(data)).copy()  # writable

    kinds = json.loads(read_regular_file(directory / TEST_DATA / "samples.json", "test vector"))
    inputs = TestInputs(read("input_0.pb"), tuple(kinds["kinds"]))
    return Reference(inputs, read("output_0.pb"), read("eager_float32_error.pb"))
