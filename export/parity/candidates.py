"""Everything that is compared with the float64 reference: eager float32, and each exported file at
each level of optimisation, at each size that it declares, on one provider.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zoo.catalog.weights_records import InputSpec
from zoo.errors import ConfigError, ProviderError
from zoo.factory.description import PretrainedCfg
from zoo.files.ledger import known_digests
from zoo.files.manifest import Manifest
from zoo.files.stages import stage

from ..formats.axes import Axes, at_size
from ..formats.extras import extras_in
from ..runtime.builtin import OPENVINO, PROVIDERS
from ..runtime.opening import open_listed, precision_of
from ..runtime.placement import KNOWN_GAPS, SHAPE_OPERATORS
from ..runtime.providers import LEVELS, SessionSettings
from ..runtime.session import Session
from ..spec import ExportSpec
from .compare import check_named
from .inputs import make_inputs
from .reference import Reference, compute_references, eager_runner
from .report import ParityRow

Array = np.ndarray[Any, Any]
Found = tuple[tuple[ParityRow, ...], dict[str, Any]]
_OF_TORCH = ("cpu", "cuda")  # where torch runs too
_NOT_RUN = "compared when it was written; here there is no reference for its outputs"


@dataclass(frozen=True)
class Bench:
    """Where candidates are measured.

    Args:
        directory, manifest: the files, digests checked.
        provider, tf32: where they run.
        spec: batches and limits.
        levels: graph optimisations of onnxruntime.
        model: the model in torch, or None where torch is missing.
        references: stored ones, the model's own image size first.
        trust_code: whether .pt and .pt2 files run that this user did not export.
        computed: references that were computed on the way, by outputs and size.
    """

    directory: Path
    manifest: Manifest
    provider: str
    tf32: bool
    spec: ExportSpec
    levels: tuple[str, ...]
    model: Any
    references: tuple[Reference, ...]
    trust_code: bool = False
    computed: dict[Any, Mapping[str, Reference]] = field(default_factory=dict)


def measure_eager(bench: Bench) -> Found:
    """The model itself in float32: on the CPU the yardstick, on CUDA one more candidate."""
    if bench.model is None or bench.provider not in _OF_TORCH:
        return (), {}
    if bench.provider == "cuda" and not _torch_has_cuda():
        return (), {"not_run": "torch sees no CUDA device"}
    device = bench.provider
    label = "torch-cuda" if device == "cuda" else "torch-cpu"
    rows: tuple[ParityRow, ...] = ()
    from ..formats.outputs import own_form

    stage("eager", f"comparing with float64 on {label}")
    with _torch_tf32(device, bench.tf32):
        run = eager_runner(bench.model, own_form(bench.model).outputs, device)
        for reference in bench.references:
            named = {reference.output: reference}
            rows += check_named(run, named, "eager", label, bench.spec, tf32=_gpu_tf32(bench))
    return rows, {}


def measure_file(bench: Bench, file: str) -> Found:
    """One exported file. Returns: rows, and what the runtime attests (or why it was not run).

    Raises: ProviderError if there is no such device, or nodes ran elsewhere that need not.
    """
    if file.endswith(".onnx"):
        return _measure_onnx(bench, file)
    if bench.provider not in _OF_TORCH:
        return (), {"not_run": f"{bench.provider} runs .onnx files only"}
    if importlib.util.find_spec("torch") is None:
        return (), {"not_run": "it needs torch, which is not installed"}
    if not (bench.trust_code or bench.manifest.digest(file) in known_digests()):
        return (), {"not_run": "it is code that was not exported here; --trust-code runs it"}
    settings = SessionSettings(provider=bench.provider, trust_code=bench.trust_code)
    with _torch_tf32(bench.provider, bench.tf32):
        session = open_listed(bench.directory, bench.manifest, file, settings)
        return _compare(bench, file, session, ""), {}


def _measure_onnx(bench: Bench, file: str) -> Found:
    rows: tuple[ParityRow, ...] = ()
    proof: dict[str, Any] = {}
    for level in bench.levels if bench.provider != OPENVINO else (LEVELS[-1],):
        stage(file, f"comparing with float64, optimisation level {level}")
        settings = SessionSettings(provider=bench.provider, tf32=bench.tf32, level=level)
        session = open_listed(bench.directory, bench.manifest, file, settings)
        _require_placement(file, session)
        made = _compare(bench, file, session, level)
        proof = session.attestation  # of the last level, the one that users run
        if not made:
            return (), {**proof, "not_run": _NOT_RUN}
        rows += made
    return rows, proof


def _compare(bench: Bench, file: str, session: Session, level: str) -> tuple[ParityRow, ...]:
    """Rows of one opened file at every size; none if no reference can be had."""
    if "preprocessing" in extras_in(file):
        return _compare_images(bench, file, session, level)
    rows: tuple[ParityRow, ...] = ()
    for references in _references(bench, file, session):
        rows += check_named(
            session.run_named, references, file, session.provider, bench.spec,
            precision_of(file), _gpu_tf32(bench), level,
        )  # fmt: skip
    return rows


def _compare_images(bench: Bench, file: str, session: Session, level: str) -> tuple[ParityRow, ...]:
    """Rows of a file that takes images; without torch none, for their pixels are not stored."""
    if bench.model is None:
        return ()
    from ..formats.outputs import form_with
    from .images import compare_images

    form = form_with(bench.model, extras_in(file))
    input = InputSpec.from_dict(session.metadata["input"])
    return compare_images(session, file, form, input, bench.spec, _gpu_tf32(bench), level)[0]


def _references(bench: Bench, file: str, session: Session) -> Iterator[Mapping[str, Reference]]:
    """References of a file's outputs, one mapping per size that it declares.

    Without torch these are the stored ones: logits, at the sizes that have test data.
    """
    stored = {reference.size: reference for reference in bench.references}
    own = bench.references[0]
    outputs = tuple(session.metadata.get("outputs") or (own.output,))
    stated = Axes.stated(own.size, session.metadata).sizes
    sizes = stated if bench.model is not None else tuple(size for size in stored if size in stated)
    for size in sizes:
        if outputs == (own.output,) and size in stored:
            yield {own.output: stored[size]}
        elif bench.model is not None:
            yield _computed(bench, file, outputs, size)
        elif own.output in outputs and size in stored:
            yield {own.output: stored[size]}


def _computed(
    bench: Bench, file: str, outputs: tuple[str, ...], size: tuple[int, int]
) -> Mapping[str, Reference]:
    """References computed here, in torch; kept, as levels of one file share them."""
    from ..formats.outputs import form_with

    key = (outputs, size)
    if key not in bench.computed:
        cfg = PretrainedCfg.of(bench.model)
        if cfg is None:
            raise ConfigError("the model does not say what its input is")
        inputs = make_inputs(at_size(cfg.input, size), bench.spec.seed)
        form = form_with(bench.model, extras_in(file))
        bench.computed[key] = compute_references(
            form.module, inputs, bench.spec.batches, form.outputs
        )
    return bench.computed[key]


def _require_placement(file: str, session: Session) -> None:
    """Raises: ProviderError if a float file of fixed size has nodes off the GPU."""
    if session.provider == PROVIDERS["cpu"] or precision_of(file) == "int8":
        return
    allowed = set(KNOWN_GAPS)
    if int(session.metadata.get("size_multiple") or 0) or "preprocessing" in extras_in(file):
        allowed |= SHAPE_OPERATORS
    found = session.attestation.get("elsewhere", [])
    other = [entry for entry in found if entry.partition(" ")[0] not in allowed]
    if other:
        raise ProviderError(
            f"{len(other)} nodes of {file} did not run on {session.provider}: "
            f"{', '.join(other[:5])}; export it again, or report the operator"
        )


def _gpu_tf32(bench: Bench) -> bool:
    return bench.tf32 and bench.provider == "cuda"


def _torch_has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@contextlib.contextmanager
def _torch_tf32(device: str, allowed: bool) -> Iterator[None]:
    """TF32 in torch's convolutions and products, on or off, for the length of a measurement."""
    if device != "cuda":
        yield
        return
    import torch

    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        with torch.backends.cudnn.flags(allow_tf32=allowed):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
