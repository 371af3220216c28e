"""ONNX files in OpenVINO, on the processor: in float32, every operator placed there, or not at all.

OpenVINO picks its own precision where it may: bfloat16 on processors that multiply it fast. The
settings here forbid that, and what was compiled is asked whether it complied.
"""

from __future__ import annotations

import queue
import re
from collections import Counter
from typing import Any

import numpy as np

from zoo.errors import InputError, MissingDependencyError, ModelFileError, ProviderError
from zoo.files.local import sha256_bytes

from ..spec import OUTPUT_NAME
from .batches import prepare_batch
from .builtin import OPENVINO
from .model_files import ModelFile, is_dynamic_int8
from .providers import SessionSettings, create_session
from .session import Named, Session, decode_metadata

Array = np.ndarray[Any, Any]

PROVIDER = "openvino-cpu"
_DEVICE = "CPU"
_EXACT = {
    "EXECUTION_MODE_HINT": "ACCURACY",
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",  # it would quantise inputs of products with int8
    "PERFORMANCE_HINT": "LATENCY",
}


def import_openvino() -> Any:
    """The openvino module. Raises: MissingDependencyError."""
    try:
        import openvino
    except ImportError:
        raise MissingDependencyError(
            "openvino is not installed; pip install 'convattn-zoo[openvino]', or use --provider cpu"
        ) from None
    return openvino


def open_openvino(model: ModelFile, settings: SessionSettings) -> Session:
    """Compile a model for the processor; safe to call from many threads.

    Raises: MissingDependencyError; ProviderError if OpenVINO does not take the whole graph in
        float32; ModelFileError if no runtime can open it.
    """
    openvino = import_openvino()
    if model.external:
        raise ProviderError(
            f"{model.name} keeps weights in files beside it, which {OPENVINO} is not given; export "
            "it again as one file, or use --provider cpu"
        )
    threads = {"INFERENCE_NUM_THREADS": str(settings.threads)} if settings.threads else {}
    core = openvino.Core()
    try:
        graph = core.read_model(model=model.data)
        compiled = core.compile_model(graph, _DEVICE, {**_EXACT, **threads})
    except RuntimeError as error:
        create_session(model, SessionSettings())  # says what is wrong with the file, if something
        raise ProviderError(
            f"OpenVINO {openvino.__version__} did not take {model.name}{_operators(error)}; use "
            "--provider cpu"
        ) from None
    proof = _attest(openvino, core, graph, compiled)
    shape, kind, outputs, raw = _stated(model)
    return Session(
        _runner(compiled, shape, kind, outputs),
        PROVIDER,
        decode_metadata(raw),
        proof,
        shape,
        OUTPUT_NAME if OUTPUT_NAME in outputs else outputs[0],
        sha256_bytes(model.data),
        is_dynamic_int8(model),
    )


def _operators(error: Exception) -> str:
    """Operators that a refusal names; the rest of it are lines of OpenVINO's sources."""
    found = sorted(set(re.findall(r"\b(?:ai\.onnx|com\.microsoft)[\w.]*\.\w+", str(error))))
    return f": it has no {', '.join(found[:5])}" if found else f" ({type(error).__name__})"


def _attest(openvino: Any, core: Any, graph: Any, compiled: Any) -> dict[str, Any]:
    """Proof of what OpenVINO runs where. Raises: ProviderError."""
    placed: dict[str, str] = core.query_model(graph, _DEVICE)
    devices = compiled.get_property("EXECUTION_DEVICES")
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    missing = [
        f"{node.get_type_name()} {node.get_friendly_name()}"
        for node in graph.get_ops()
        if placed.get(node.get_friendly_name()) != _DEVICE
    ]
    if missing or list(devices) != [_DEVICE]:
        where = ", ".join(missing[:5]) or f"it runs on {', '.join(devices)}"
        raise ProviderError(f"OpenVINO did not place the whole graph on the processor: {where}")
    if precision != "f32":
        raise ProviderError(f"OpenVINO computes in {precision} although float32 was asked for")
    return {
        "providers": [PROVIDER],
        "nodes": dict(Counter({PROVIDER: len(placed)})),
        "elsewhere": [],
        "openvino": openvino.__version__,
        "device": core.get_property(_DEVICE, "FULL_DEVICE_NAME"),
        "inference_precision": precision,
        "executed": len(compiled.get_runtime_model().get_ops()),
    }


def _stated(model: ModelFile) -> tuple[tuple[Any, ...], str, list[str], dict[str, str]]:
    """Shape of the input with the names of its axes, its type, names of outputs, and metadata:
    what OpenVINO's own graph no longer says.
    """
    import onnx

    proto = onnx.load_model_from_string(model.data)
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    outputs = [value.name for value in proto.graph.output]
    if len(inputs) != 1 or not outputs:
        raise ModelFileError(
            f"{model.name} has {len(inputs)} inputs and {len(outputs)} outputs; expected images "
            "alone, and an answer"
        )
    stated = inputs[0].type.tensor_type
    shape = tuple(d.dim_value or d.dim_param or None for d in stated.shape.dim)
    kind = f"tensor({onnx.TensorProto.DataType.Name(stated.elem_type).lower()})"
    return shape, kind, outputs, {entry.key: entry.value for entry in proto.metadata_props}


def _runner(compiled: Any, shape: tuple[Any, ...], kind: str, outputs: list[str]) -> Named:
    """A function from batches to outputs. A request serves one call at a time; idle ones wait."""
    idle: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(batch: Array) -> dict[str, Array]:
        ready = prepare_batch(batch, shape, kind)
        try:
            request = idle.get_nowait()
        except queue.Empty:
            request = compiled.create_infer_request()
        try:
            found = request.infer([ready])
        except RuntimeError as error:
            raise InputError(
                f"the graph refused an input of shape {ready.shape} ({type(error).__name__}); it "
                f"takes {shape}"
            ) from None
        answers = {name: np.array(found[place]) for place, name in enumerate(outputs)}
        idle.put(request)
        return answers

    return run
