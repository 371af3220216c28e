"""Open exported files as plain functions and predictors, on the execution provider that was asked
for or not at all.

numpy, Pillow and onnxruntime are enough for .onnx files; .pt and .pt2 need torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo.catalog.weights_records import InputSpec
from zoo.errors import ConfigError, ModelFileError
from zoo.evaluation.predictor import Predictor
from zoo.files.ledger import known_digests
from zoo.files.local import sha256_bytes
from zoo.files.manifest import Manifest, read_manifest

from ..spec import OUTPUT_NAME
from .builtin import OPENVINO
from .cost import require_bounded_cost
from .model_files import ModelFile, is_dynamic_int8, read_model, require_bounded
from .onnx_session import CudaGraph, bound_runner, plain_runner
from .providers import SessionSettings, create_session
from .session import Named, Session, decode_metadata
from .torch_session import open_torch

Array = np.ndarray[Any, Any]

# precision -> files of an export directory, the first that is there
_FILES = {
    "float32": ("onnx/model.onnx", "model.pt2", "model.pt", "model.aoti.pt2"),
    "float16": ("onnx/model_fp16.onnx",),
    "int8": ("onnx/model_quantized.onnx", "onnx/model_int8.onnx"),
}


def open_onnx(
    path: str | Path,
    provider: str = "cpu",
    *,
    sha256: str | None = None,
    tf32: bool = True,
    threads: int = 0,
    level: str = "all",
    cuda_graph: bool = False,
    untrusted: bool = False,
    trust_code: bool = False,
) -> Session:
    """Open an ONNX file. `onnxruntime` quietly runs on the CPU when CUDA is missing; this raises
    instead.

    Args:
        provider: "cpu", "cuda", "tensorrt" or "openvino"; on CUDA inputs and outputs are bound to
            the device.
        sha256: expected digest of the file.
        tf32, threads, level, cuda_graph: see `SessionSettings`.
        untrusted: refuse operators whose cost the file can make arbitrary.
        trust_code: open a file that was not exported here without finding its cost first.
    Raises: ProviderError if the provider did not take the graph, ModelFileError if the file cannot
        be opened (code "unbounded": it could run without end, and was not exported here),
        IntegrityError if the digest differs or external data are not plain files beside it,
        ResourceError if it cannot be read.
    """
    settings = SessionSettings(
        provider=provider,
        tf32=tf32,
        threads=threads,
        level=level,
        cuda_graph=cuda_graph,
        trust_code=trust_code,
    )
    return _open_onnx(Path(path), settings, sha256, untrusted)


def _open_onnx(
    path: Path, settings: SessionSettings, sha256: str | None, untrusted: bool
) -> Session:
    model = read_model(path, sha256)
    digest = sha256_bytes(model.data)
    if untrusted:
        require_bounded(model)
    if settings.trust_code or digest in known_digests():
        return _opened(model, settings, digest)
    require = require_bounded_cost(model)
    session = _opened(model, settings, digest)

    def run_bounded(batch: Array) -> dict[str, Array]:
        if isinstance(batch, np.ndarray) and batch.ndim == len(session.shape) and batch.size:
            require(batch.shape)
        return session.run_named(batch)

    return replace(session, run_named=run_bounded)


def _opened(model: ModelFile, settings: SessionSettings, digest: str) -> Session:
    """A file that may run, on its provider."""
    from .attestation import attest

    if settings.provider == OPENVINO:
        from .openvino_session import open_openvino

        return open_openvino(model, settings)
    session = create_session(model, settings)
    if not (session.get_inputs() and session.get_outputs()):
        raise ModelFileError(f"{model.name} has no inputs or no outputs; export it again")
    try:
        metadata = decode_metadata(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError:
        raise ModelFileError(
            f"{model.name} has metadata that are not UTF-8 text; export it again", code="metadata"
        ) from None
    outputs = [value.name for value in session.get_outputs()]
    if settings.cuda_graph:
        run: Named = CudaGraph(session)
    else:
        run = bound_runner(session) if settings.provider == "cuda" else plain_runner(session)
    return Session(
        run,
        session.get_providers()[0],
        metadata,
        attest(session, settings),
        tuple(session.get_inputs()[0].shape),
        OUTPUT_NAME if OUTPUT_NAME in outputs else outputs[0],
        digest,
        is_dynamic_int8(model),
    )


def open_session(
    path: str | Path,
    settings: SessionSettings | None = None,
    *,
    precision: str | None = None,
    untrusted: bool = False,
) -> Session:
    """Open a .onnx, .pt or .pt2 file, or the file of one precision in an export directory.

    Args:
        settings: provider, threads and the like; of torch's formats the provider only.
        precision: "float32", "float16" or "int8", of a directory; None is "float32" there.
        untrusted: see `open_onnx`.
    Raises: as `open_onnx`; ConfigError for another suffix, the precision of a single file, threads
        for one of torch's formats; IntegrityError (code "code_not_trusted") for a .pt or .pt2 that
        this user did not export, unless the settings trust code, MissingDependencyError for these
        without torch.
    """
    settings = settings or SessionSettings()
    path, digest = file_of(path, precision)
    if path.suffix == ".onnx":
        return _open_onnx(path, settings, digest, untrusted)
    if path.suffix in (".pt", ".pt2"):
        return open_torch(path, settings, digest)
    raise ConfigError(
        f"expected a .onnx, .pt or .pt2 file, or the directory of an export; got {path.name!r}"
    )


def file_of(place: str | Path, precision: str | None = None) -> tuple[Path, str | None]:
    """The file of a precision in an export directory, and its digest; or the one file itself.

    Raises: as `open_session`.
    """
    place = Path(place)
    if precision is not None and precision not in _FILES:
        raise ConfigError(f"precision must be one of {', '.join(_FILES)}; got {precision!r}")
    if not place.is_dir():
        if precision is not None:
            raise ConfigError(
                f"precision chooses a file of an export directory, and {place.name!r} is none; "
                "leave precision out, or name the directory"
            )
        return place, None
    return _member(place, precision or "float32")


def _member(directory: Path, precision: str) -> tuple[Path, str]:
    manifest: Manifest = read_manifest(directory)
    for file in _FILES[precision]:
        if file in manifest.paths:
            return directory / file, manifest.digest(file)
    raise ConfigError(
        f"{str(directory)!r} holds no {precision} file; run convattn export with that precision",
        code="no_export",
    )


def open_listed(
    directory: Path, manifest: Manifest, file: str, settings: SessionSettings
) -> Session:
    """One file of a directory, checked against the digest in its manifest. Errors as above."""
    path, digest = directory / file, manifest.digest(file)
    if path.suffix == ".onnx":
        return _open_onnx(path, settings, digest, untrusted=False)
    return open_torch(path, settings, digest)


def precision_of(file: str) -> str:
    """float32, float16 or int8: by the name of a file in an export directory."""
    return next((name for name, files in _FILES.items() if file in files), "float32")


def open_file(
    path: str | Path, provider: str = "cpu", trust_code: bool = False
) -> tuple[Callable[[Array], Array], dict[str, Any]]:
    """`open_session` as a function on batches, and the file's metadata."""
    session = open_session(path, SessionSettings(provider=provider, trust_code=trust_code))
    return session.run, session.metadata


def open_predictor(
    path: str | Path,
    provider: str = "cpu",
    *,
    precision: str | None = None,
    threads: int = 0,
    warm_up: Sequence[int] = (),
    like: str = "",
    untrusted: bool = False,
    trust_code: bool = False,
) -> Predictor:
    """A `zoo.Predictor` over an exported file or directory; safe to call from many threads.

    Args:
        precision: of a directory; see `open_session`.
        threads: of onnxruntime or OpenVINO for one call; 0 lets it choose.
        warm_up: batch sizes that are run once before this returns.
        like: a model reference whose preprocessing and labels a foreign file without metadata has.
        untrusted: see `open_onnx`.
        trust_code: run a .pt or .pt2 file, or an .onnx file without a bound, that this user did
            not export.
    Raises: as `open_session`; ConfigError for a file without metadata and no `like`.
    """
    if untrusted and trust_code:
        raise ConfigError("a file is untrusted, or its code is trusted: not both")
    settings = SessionSettings(provider=provider, threads=threads, trust_code=trust_code)
    session = open_session(path, settings, precision=precision, untrusted=untrusted)
    stated = session.metadata
    if like:
        spec, labels = _described_by(like)
    elif isinstance(stated.get("input"), dict):
        spec = InputSpec.from_dict(stated["input"])
        labels = tuple(stated.get("labels") or ())
    else:
        raise ConfigError(
            f"{Path(path).name} does not say how to prepare its input (no 'input' metadata); it "
            "was not written by convattn export. Name a model whose preprocessing it has "
            "(--like NAME), or use zoo.Predictor(forward, input=InputSpec(...))",
            code="foreign_file",
        )
    session.warm_up(warm_up)
    name, digest = stated.get("name") or Path(path).name, stated.get("weights_sha256") or ""
    origin = {
        "provider": session.provider,
        "file": Path(path).name,
        "file_sha256": session.sha256,
        "output": session.output,
        "dynamic_int8": session.dynamic_int8,
    }
    return Predictor(session.run, spec, labels, name, digest, origin)


def _described_by(name: str) -> tuple[InputSpec, tuple[str, ...]]:
    import zoo
    from zoo.catalog.references import kind_of
    from zoo.catalog.tables import read_labels
    from zoo.factory.building import input_of

    kind = kind_of(name)
    if kind == "py":  # only the module itself knows
        module: Any = zoo.create_model(name)
        return module.pretrained_cfg.input, module.pretrained_cfg.labels
    if kind != "name":
        from zoo.factory.resolve import resolve

        described = resolve(name).described
        return described.input, described.labels
    record = zoo.get_record(name)
    picked = record.selected or record.checkpoint
    trained = picked.overrides if picked else {}
    input = input_of((picked and picked.input) or record.input, {**record.config, **trained})
    if record.selected:
        return input, read_labels(record.selected.labels)
    return input, () if "num_classes" in trained else read_labels(record.labels)
