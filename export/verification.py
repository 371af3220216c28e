"""Repeat, later and elsewhere, what an export proved: digests of all files, and parity on a
provider.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import IntegrityError, ParityError, ProviderError
from zoo.files import read_regular_file
from zoo.manifest import Manifest, check_files, read_manifest

from .bundles import FORMATS, TEST_DATA, read_test_data
from .onnx_export import package_versions, require_parity
from .parity import ParityReport, ParityRow, check_parity
from .reference import Reference, float64_logits
from .spec import ExportSpec

_REFERENCE_TOLERANCE = 1e-9  # relative; float64 on another machine


@dataclass(frozen=True)
class Verification:
    """What `verify_directory` found.

    Args:
        manifest: the files, all of which match their digests.
        reference: "recomputed" from model.safetensors in float64, or "stored" (no torch here).
        report: parity on the provider, or None if the directory holds no exported file.
    """

    manifest: Manifest
    reference: str
    report: ParityReport | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "files": len(self.manifest.files),
            "reference": self.reference,
            "parity": self.report.to_dict() if self.report else None,
        }


def verify_directory(
    directory: str | Path,
    provider: str = "cpu",
    *,
    tf32: bool = False,
    spec: ExportSpec | None = None,
) -> Verification:
    """Check every file of a run or export directory, then run the exported ones.

    Args:
        provider: "cpu", "cuda" or "tensorrt"; the graph must really run there.
        tf32: allow TensorFloat-32 on CUDA (judged by the looser limit of the spec).
    Raises: IntegrityError (a digest differs), ProviderError (the provider did not run the graph),
        ParityError (too far from the reference), UnknownModelError (no manifest).
    """
    directory = Path(directory)
    spec = spec or ExportSpec()
    manifest = read_manifest(directory)
    check_files(directory, manifest)
    files = [file for file in FORMATS.values() if file in manifest.paths]
    if not files:
        _load(directory)
        return Verification(manifest, "not needed", None)
    reference = read_test_data(directory)
    how = _check_reference(directory, reference)
    rows: list[ParityRow] = []
    attestation: dict[str, Any] = {}
    for file in files:
        made, proof = _measure(directory, file, provider, tf32, reference, spec, manifest)
        rows += made
        attestation |= proof
    report = ParityReport(
        manifest.name,
        manifest.version,
        _weights_digest(directory),
        tuple(rows),
        attestation,
        package_versions(),
    )
    require_parity(report)
    return Verification(manifest, how, report)


def _measure(
    directory: Path,
    file: str,
    provider: str,
    tf32: bool,
    reference: Reference,
    spec: ExportSpec,
    manifest: Manifest,
) -> tuple[tuple[ParityRow, ...], dict[str, Any]]:
    digest = manifest.digest(file)
    if file.endswith(".onnx"):
        from .runtime import open_onnx

        session = open_onnx(directory / file, provider, sha256=digest, tf32=tf32)
        rows = check_parity(session.run, reference, file, session.provider, spec, tf32)
        return rows, {file: session.attestation}
    if provider == "tensorrt" or not _has("torch"):
        return (), {file: {"not_run": "TorchScript needs torch, and has no TensorRT provider"}}
    return _measure_torchscript(directory / file, file, provider, tf32, reference, spec, digest)


def _measure_torchscript(
    path: Path,
    file: str,
    provider: str,
    tf32: bool,
    reference: Reference,
    spec: ExportSpec,
    digest: str,
) -> tuple[tuple[ParityRow, ...], dict[str, Any]]:
    import torch

    from .torchscript_export import load_torchscript

    if provider == "cuda" and not torch.cuda.is_available():
        raise ProviderError(f"torch {torch.__version__} sees no CUDA device to run {file} on")
    run, _ = load_torchscript(path, digest, provider)
    label = "CUDAExecutionProvider" if provider == "cuda" else "torch-cpu"
    flags = torch.backends.cudnn.flags(allow_tf32=tf32) if provider == "cuda" else None
    with flags or contextlib.nullcontext():
        rows = check_parity(run, reference, file, label, spec, tf32 and provider == "cuda")
    if provider == "cuda":
        rows = tuple(_relabel(row, "torch-cuda") for row in rows)
    return rows, {}


def _relabel(row: ParityRow, provider: str) -> ParityRow:
    from dataclasses import replace

    return replace(row, provider=provider)


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _load(directory: Path) -> Any:
    import zoo

    return zoo.create_model(str(directory), pretrained=True)


def _check_reference(directory: Path, reference: Reference) -> str:
    """Recompute the reference from the weights where torch is installed. Raises: ParityError."""
    if not _has("torch"):
        return "stored"
    logits = float64_logits(_load(directory), reference.inputs.batch)
    scale = float(np.abs(reference.logits).max()) or 1.0
    error = float(np.abs(logits - reference.logits).max()) / scale
    if not error <= _REFERENCE_TOLERANCE:
        raise ParityError(
            f"the reference in {TEST_DATA} differs from model.safetensors by {error:.1e} "
            f"(relative); "
            "the directory mixes two models, export it again"
        )
    return "recomputed"


def _weights_digest(directory: Path) -> str:
    config = json.loads(read_regular_file(directory / "config.json", "config.json"))
    digest = config.get("convattn", {}).get("weights_sha256", "")
    if not digest:
        raise IntegrityError(
            "config.json does not name the digest of its weights", code="integrity"
        )
    return str(digest)
