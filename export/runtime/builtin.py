"""The onnxruntime package, and the providers that need no library of their own."""

from __future__ import annotations

from typing import Any

from zoo.errors import MissingDependencyError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
OPENVINO = "openvino"  # a runtime of its own, for the same files
BUILT_IN = (*PROVIDERS, OPENVINO)
# what reports call other places where a file or a model runs
PLACES = ("torch-cpu", "torch-cuda", "openvino-cpu", "wasm", "webgpu")


def import_runtime() -> Any:
    """The onnxruntime module. Raises: MissingDependencyError."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            "onnxruntime is not installed; pip install onnxruntime-gpu (or onnxruntime)"
        ) from None
    return onnxruntime
