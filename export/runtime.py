"""Open exported files as plain functions, on the execution provider that was asked for or not at
all.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zoo import InputSpec, Predictor
from zoo.errors import ConfigError, ExportError, InputError, IntegrityError, ProviderError
from zoo.files import read_regular_file, sha256_bytes

Array = np.ndarray[Any, Any]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


@dataclass(frozen=True)
class OnnxSession:
    """An ONNX Runtime session with proof of where it runs.

    Args:
        run: float32 (B, C, H, W) -> logits (B, classes).
        provider: the provider that leads the session.
        metadata: what the file says of itself, decoded.
        attestation: providers of the session, number of nodes per provider, nodes that are
            elsewhere.
    """

    run: Callable[[Array], Array]
    provider: str
    metadata: dict[str, Any]
    attestation: dict[str, Any] = field(default_factory=dict)


def open_onnx(
    path: str | Path,
    provider: str = "cpu",
    *,
    sha256: str | None = None,
    tf32: bool = True,
    threads: int = 0,
) -> OnnxSession:
    """Open an ONNX file. `onnxruntime` quietly runs on the CPU when CUDA is missing; this raises
    instead.

    Args:
        provider: "cpu", "cuda" or "tensorrt".
        sha256: expected digest of the file.
        tf32: whether CUDA may use TensorFloat-32.
        threads: intra-op threads; 0 lets the runtime choose.
    Raises: ProviderError if the provider did not take the graph, ExportError if the file cannot be
        opened, IntegrityError if the digest differs, ResourceError if it cannot be read.
    """
    import onnxruntime

    if provider not in PROVIDERS:
        raise ConfigError(f"provider must be cpu, cuda or tensorrt; got {provider!r}")
    data = read_regular_file(path, "ONNX file")
    if sha256 is not None and sha256_bytes(data) != sha256:
        raise IntegrityError(
            f"{Path(path).name} has SHA-256 {sha256_bytes(data)}, expected {sha256}; export it "
            f"again",
            code="hash",
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = _create(data, options, provider, tf32, Path(path).name)
    return OnnxSession(
        _runner(session),
        session.get_providers()[0],
        _metadata(session.get_modelmeta().custom_metadata_map),
        _attest(session, provider, tf32),
    )


def _create(data: bytes, options: Any, provider: str, tf32: bool, name: str) -> Any:
    import onnxruntime

    wanted = PROVIDERS[provider]
    settings: list[Any] = [wanted]
    missing: list[str] = []
    if provider != "cpu":
        missing = _preload_cuda()
        settings = [(wanted, {"use_tf32": int(tf32)} if provider == "cuda" else {})]
        onnxruntime.set_default_logger_severity(4)  # its text names paths inside the package
    try:
        # on failure the Python layer prints to stdout and tries again on the CPU
        with contextlib.redirect_stdout(io.StringIO()):
            session = onnxruntime.InferenceSession(data, options, providers=settings)
    except Exception as error:
        if provider != "cpu":
            raise ProviderError(_not_run(wanted, name, "no session", missing)) from None
        reason = type(error).__name__
        raise ExportError(
            f"onnxruntime {onnxruntime.__version__} cannot open {name} ({reason}): not an ONNX "
            f"model, "
            "damaged, or of a newer opset; export it again"
        ) from None
    finally:
        if provider != "cpu":
            onnxruntime.set_default_logger_severity(2)
    have = session.get_providers()
    if have[0] != wanted:
        what = f"the session runs on {have[0]}"
        raise ProviderError(_not_run(wanted, name, what, missing))
    return session


def _not_run(wanted: str, name: str, what: str, missing: list[str]) -> str:
    lacks = f", {', '.join(missing)} not found" if missing else ""
    needs = "an NVIDIA GPU, its driver and CUDA (pip install 'convattn-zoo[cuda]')"
    if wanted == PROVIDERS["tensorrt"]:
        needs = f"the TensorRT libraries, {needs}"
    return f"{wanted} did not run {name}: {what}{lacks}. It needs {needs}; or use --provider cpu"


def _preload_cuda() -> list[str]:
    """Let the provider find the CUDA libraries that Python packages brought; name those that
    lack.
    """
    import onnxruntime

    said = io.StringIO()
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.suppress(Exception), contextlib.redirect_stdout(said):
            onnxruntime.preload_dlls()
    return sorted(set(re.findall(r"Failed to load (\S+?):", said.getvalue())))


def _runner(session: Any) -> Callable[[Array], Array]:
    info = session.get_inputs()[0]
    name, chans = info.name, info.shape[1] if len(info.shape) == 4 else None

    def run(batch: Array) -> Array:
        if (
            batch.ndim != 4
            or (isinstance(chans, int) and batch.shape[1] != chans)
            or not len(batch)
        ):
            raise InputError(
                f"expected float32 images {tuple(info.shape)}; got {batch.dtype} {batch.shape}"
            )
        try:
            result: Array = session.run(None, {name: np.ascontiguousarray(batch, np.float32)})[0]
        except Exception as error:
            reason = type(error).__name__
            raise InputError(
                f"the graph refused an input of shape {batch.shape} ({reason}); it takes "
                f"{tuple(info.shape)}"
            ) from None
        return result

    return run


def _metadata(raw: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = dict(raw)
    for key in ("input", "labels"):
        with contextlib.suppress(ValueError, TypeError):
            found[key] = json.loads(raw[key]) if key in raw else None
    return found


def _attest(session: Any, provider: str, tf32: bool) -> dict[str, Any]:
    """Which provider really took which node, from the runtime's own record. Raises:
    ProviderError.
    """
    import onnxruntime

    wanted = PROVIDERS[provider]
    placed: Counter[str] = Counter()
    elsewhere: list[str] = []
    for part in session.get_provider_graph_assignment_info():
        nodes = part.get_nodes()
        placed[part.ep_name] += len(nodes)
        if part.ep_name != wanted:
            elsewhere += [f"{node.op_type} {node.name} on {part.ep_name}" for node in nodes]
    if not placed[wanted]:
        raise ProviderError(f"{wanted} leads the session but took none of its nodes")
    return {
        "providers": session.get_providers(),
        "nodes": dict(placed),
        "elsewhere": elsewhere,
        "onnxruntime": onnxruntime.__version__,
        "build": onnxruntime.get_build_info(),
        **({"tf32": tf32, **_device()} if provider != "cpu" else {}),
    }


def _device() -> dict[str, str]:
    """Name and driver of the first NVIDIA GPU, from its own tool."""
    import subprocess

    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        line = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {"device": "unknown", "driver": "unknown"}
    name, _, driver = line.splitlines()[0].partition(", ")
    return {"device": name, "driver": driver}


def open_file(
    path: str | Path, provider: str = "cpu"
) -> tuple[Callable[[Array], Array], dict[str, Any]]:
    """Open a single .onnx or .pt file. Returns: a function on batches, and the file's metadata.

    A .pt file is code: it is opened only if the manifest.json beside it lists its digest.
    Raises: as `open_onnx`; ConfigError for another suffix, IntegrityError for a .pt that no
        manifest lists.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        session = open_onnx(path, provider)
        return session.run, session.metadata
    if path.suffix == ".pt":
        from .torchscript_export import load_torchscript

        if provider == "tensorrt":
            raise ConfigError("a TorchScript file runs on cpu or cuda")
        run, metadata = load_torchscript(path, _listed_digest(path), provider)
        return run, _metadata(metadata)
    raise ConfigError(f"expected a .onnx or .pt file; got {path.name!r}")


def _listed_digest(path: Path) -> str:
    manifest = path.parent / "manifest.json"
    if manifest.is_file():
        for entry in json.loads(manifest.read_text(encoding="utf-8"))["files"]:
            if entry["path"] == path.name:
                return str(entry["sha256"])
    raise IntegrityError(
        f"{path.name} is TorchScript, which is code, and no manifest.json beside it lists its "
        f"digest; "
        "keep it in the directory that `convattn export` wrote, or use the .onnx file",
        code="unlisted",
    )


def open_predictor(path: str | Path, provider: str = "cpu") -> Predictor:
    """A `zoo.Predictor` over an exported file. Errors as `open_file`; ConfigError without
    metadata.
    """
    run, metadata = open_file(path, provider)
    if not isinstance(metadata.get("input"), dict):
        raise ConfigError(
            f"{Path(path).name} does not say how to prepare its input (no 'input' metadata); it "
            f"was not "
            "written by convattn export. Use zoo.Predictor(forward, input=InputSpec(...)) instead",
            code="foreign_file",
        )
    labels = tuple(metadata.get("labels") or ())
    return Predictor(run, InputSpec.from_dict(metadata["input"]), labels, metadata.get("name", ""))


def probe_providers() -> dict[str, dict[str, Any]]:
    """Run a one-node graph on each provider. Returns: provider -> {"runs", "note"}."""
    found: dict[str, dict[str, Any]] = {}
    for provider in PROVIDERS:
        try:
            with _probe_file() as path:
                session = open_onnx(path, provider)
                session.run(np.zeros((1, 1, 1, 1), np.float32))
            note = session.attestation.get("device", "")
            found[provider] = {"runs": True, "note": note}
        except ProviderError as error:
            found[provider] = {"runs": False, "note": str(error)}
    return found


@contextlib.contextmanager
def _probe_file() -> Iterator[Path]:
    import tempfile

    from onnx import TensorProto, helper

    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, 1, 1])
        for name in ("pixel_values", "logits")
    ]
    node = helper.make_node("Relu", ["pixel_values"], ["logits"], name="probe")
    graph = helper.make_graph([node], "probe", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.onnx"
        path.write_bytes(model.SerializeToString())
        yield path
