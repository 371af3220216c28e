"""Repeat, later and elsewhere, what an export proved: digests of all files, and parity on a
provider.

With torch the reference is recomputed from the weights; without it the stored one is used, and only
the .onnx files run: numpy, Pillow and onnxruntime are enough for that.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import (
    ConfigError,
    IntegrityError,
    NotFoundError,
    ParityError,
    UnknownModelError,
)
from zoo.factory.config_json import read_config
from zoo.files.ledger import CODE_SUFFIXES, require_own_code
from zoo.files.manifest import FILE as MANIFEST
from zoo.files.manifest import Manifest, check_files, read_manifest
from zoo.files.places import Directory
from zoo.files.provenance import package_versions

from ..formats.surroundings import clean_room
from ..runtime.builtin import OPENVINO
from ..runtime.providers import LEVELS
from ..spec import ExportSpec
from .candidates import Bench, measure_eager, measure_file
from .reference import Reference, float64_outputs
from .report import ParityReport, ParityRow, require_parity
from .stored import list_test_data, read_test_data

_REFERENCE_TOLERANCE = 1e-9  # relative; float64 on another machine
_SUFFIXES = (".onnx", ".pt", ".pt2")


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


@clean_room()
def verify_directory(
    directory: str | Path,
    provider: str = "cpu",
    *,
    tf32: bool = False,
    spec: ExportSpec | None = None,
    levels: Sequence[str] | None = None,
    trust_code: bool = False,
) -> Verification:
    """Check every file of a run or export directory, then run the exported ones.

    Args:
        directory: of a run or export, or one exported file inside one.
        provider: "cpu", "cuda", "tensorrt" or "openvino"; the graph must really run there.
        tf32: allow TensorFloat-32, on CUDA only (judged by the looser limit of the spec).
        spec: batches and limits. Inputs and sizes are the directory's: what a spec says of these is
            refused.
        levels: graph optimisations of onnxruntime to run each .onnx file at; None: all there are.
        trust_code: run .pt and .pt2 files that this user did not export, too; else they are not
            run, and the report says so.
    Raises: IntegrityError (a digest differs; code "code_not_trusted": code is all that was asked
        for), ProviderError (the provider did not run the graph),
        ParityError (too far from the reference), UnknownModelError (no manifest), ConfigError
        (levels or TF32 where there are none; a spec with settings that are not heeded).
    """
    spec = _heeded(spec)
    directory, only = split(Path(directory))
    manifest = _manifest_of(directory, only)
    check_files(directory, manifest)
    listed = [path for suffix in _SUFFIXES for path in manifest.paths if path.endswith(suffix)]
    files = [only] if only else listed
    levels = _levels(levels, provider, files)
    if tf32 and provider != "cuda":
        raise ConfigError(f"TF32 is of CUDA; {provider} has none. Leave it out, or verify on cuda")
    if only.endswith(CODE_SUFFIXES):
        require_own_code(only, manifest.digest(only), trust_code)
    model = _load(directory)
    if not files:
        return Verification(manifest, "not needed", None)
    references = [read_test_data(directory, name) for name in list_test_data(manifest.paths)]
    if not references:
        raise IntegrityError("the directory has no test_data_set_0; export again", code="missing")
    if model is not None:
        for reference in references:
            _check_reference(model, reference)
    bench = Bench(
        directory, manifest, provider, tf32, spec, levels, model,
        tuple(references), trust_code,
    )  # fmt: skip
    rows: list[ParityRow] = []
    attestation: dict[str, Any] = {}
    found = [(file, *measure_file(bench, file)) for file in files]
    for name, made, proof in (("eager", *measure_eager(bench)), *found):
        rows += made
        attestation |= {name: proof} if proof else {}
    report = ParityReport(
        manifest.name,
        manifest.version,
        _weights_digest(directory),
        tuple(rows),
        attestation,
        package_versions(),
    )
    require_parity(report)
    how = "stored" if model is None else "recomputed"
    return Verification(manifest, how, report)


def _heeded(spec: ExportSpec | None) -> ExportSpec:
    """Raises: ConfigError for settings that were decided when the directory was written."""
    spec = spec or ExportSpec()
    ignored = spec.changed(("opset", "dynamic_size", "whole_strides", "img_size", "seed"))
    if ignored:
        raise ConfigError(
            f"a directory is verified with the inputs and sizes that it was exported with; leave "
            f"{', '.join(ignored)} out of the spec"
        )
    return spec


def _levels(asked: Sequence[str] | None, provider: str, files: Sequence[str]) -> tuple[str, ...]:
    """The levels to run at, each once. Raises: ConfigError."""
    if asked is None:
        return LEVELS
    unknown = [level for level in asked if level not in LEVELS]
    if unknown or not asked or isinstance(asked, str):
        raise ConfigError(f"levels are one or more of {', '.join(LEVELS)}; got {asked!r}")
    if provider == OPENVINO or not any(file.endswith(".onnx") for file in files):
        found = provider if provider == OPENVINO else ", ".join(files) or "nothing exported"
        raise ConfigError(
            f"levels are those at which onnxruntime runs .onnx files; here is {found}. Leave them "
            "out"
        )
    return tuple(dict.fromkeys(asked))


def split(path: Path) -> tuple[Path, str]:
    """The directory of an export, and the one file in it that was asked for, or ""."""
    if path.suffix not in _SUFFIXES:
        return path, ""
    if not path.exists():
        raise NotFoundError(f"no such file: {str(path)!r}; check the path")
    home = path.parent.parent if path.parent.name == "onnx" else path.parent
    return home, path.relative_to(home).as_posix()


def _manifest_of(directory: Path, only: str) -> Manifest:
    """Of a directory, in which the one file that was asked for is listed."""
    if not only or (directory / MANIFEST).is_file():
        manifest = read_manifest(directory)
        if only in ("", *manifest.paths):
            return manifest
    raise UnknownModelError(
        f"nothing says what {str(directory / only)!r} should answer: no {MANIFEST} lists it. "
        "`convattn export MODEL --out DIR` writes a file with its proof; `convattn evaluate "
        "FILE.onnx --data FOLDER` measures a file of others",
        code="no_manifest",
    )


def _load(directory: Path) -> Any:
    """The model of a directory, or None without torch, or for code of one's own, which is not run
    because a directory names it.
    """
    if importlib.util.find_spec("torch") is None:
        return None
    import zoo

    try:
        return zoo.create_model(str(directory), pretrained=True)
    except ConfigError as error:
        if error.code != "own_code":
            raise
        return None


def _check_reference(model: Any, reference: Reference) -> None:
    """Recompute a stored reference from the weights. Raises: ParityError."""
    from ..formats.outputs import own_form

    found = float64_outputs(model, reference.inputs.batch, own_form(model).outputs)
    if reference.output not in found:
        raise ParityError(
            f"the stored reference is of {reference.output}, the model returns {', '.join(found)}; "
            "the directory mixes two models, export it again"
        )
    logits = found[reference.output]
    scale = float(np.abs(reference.logits).max()) or 1.0
    error = float(np.abs(logits - reference.logits).max()) / scale
    if not error <= _REFERENCE_TOLERANCE:
        raise ParityError(
            f"the stored reference differs from model.safetensors by {error:.1e} (relative); the "
            "directory mixes two models, export it again"
        )


def _weights_digest(directory: Path) -> str:
    config = read_config(Directory(str(directory)))
    digest = config.get("convattn", {}).get("weights_sha256", "")
    if not digest:
        raise IntegrityError(
            "config.json does not name the digest of its weights", code="integrity"
        )
    return str(digest)
