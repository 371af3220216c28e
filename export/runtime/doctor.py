"""What this machine can run, and the line that repairs what it cannot."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import MissingDependencyError, ProviderError

from .attestation import cuda_build, device, gpu_facts
from .builtin import BUILT_IN, OPENVINO
from .opening import open_onnx
from .providers import preload_cuda

# An ONNX model of one Relu, float (batch, 1, 1, 1) -> the same, opset 20, IR version 10.
PROBE = bytes.fromhex(
    "080a3a80010a230a0c706978656c5f76616c75657312066c6f676974731a0570726f6265220452656c75"
    "120570726f62655a2b0a0c706978656c5f76616c756573121b0a19080112150a07120562617463680a0208010a02"
    "08010a02080162250a066c6f67697473121b0a19080112150a07120562617463680a0208010a0208010a0208"
    "0142040a001014"
)

# library -> package that brings it, without the suffix that packages for CUDA 12 have
_BRINGS = {
    "libcublas": "nvidia-cublas",
    "libcublasLt": "nvidia-cublas",
    "libcudart": "nvidia-cuda-runtime",
    "libcufft": "nvidia-cufft",
    "libcurand": "nvidia-curand",
    "libnvrtc": "nvidia-cuda-nvrtc",
    "libnvJitLink": "nvidia-nvjitlink",
}


def probe_providers() -> dict[str, dict[str, Any]]:
    """Run a one-node graph on each provider.

    Returns: provider -> {"runs", "note", "missing" (libraries), "repair" (a command, or "")}.
    """
    return {provider: _probe(provider) for provider in BUILT_IN}


def _probe(provider: str) -> dict[str, Any]:
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.onnx"
            path.write_bytes(PROBE)
            session = open_onnx(path, provider)
            session.run(np.zeros((1, 1, 1, 1), np.float32))
    except MissingDependencyError as error:
        brings = "'convattn-zoo[openvino]'" if provider == OPENVINO else "onnxruntime-gpu"
        repair = f"pip install {brings}"
        return {"runs": False, "note": str(error), "missing": [], "repair": repair}
    except ModuleNotFoundError as error:
        note = f"this provider needs {error.name}, which is not installed"
        return {"runs": False, "note": note, "missing": [], "repair": f"pip install {error.name}"}
    except ProviderError as error:
        if provider == OPENVINO:
            return {"runs": False, "note": str(error), "missing": [], "repair": ""}
        return _why_not(provider)
    note = session.attestation.get("device", "")
    return {"runs": True, "note": note, "missing": [], "repair": ""}


def _why_not(provider: str) -> dict[str, Any]:
    """The first thing that is missing, in the order in which it must be repaired."""
    missing = preload_cuda()
    repair = ""
    if cuda_build() == "none":
        note = "the installed onnxruntime is a build without CUDA"
        repair = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
    elif device()["device"] == "unknown":
        note = "no NVIDIA GPU with a driver answers here (nvidia-smi)"
        repair = repair_line(missing)
    elif missing:
        note = f"{', '.join(missing)} not found"
        repair = repair_line(missing)
    elif provider == "tensorrt":
        note = "the TensorRT libraries are missing or do not fit this onnxruntime"
        repair = f"pip install tensorrt-cu{cuda_build().partition('.')[0]}"
    else:
        note = "onnxruntime refused the GPU; see its support matrix (docs/providers.md)"
    return {"runs": False, "note": note, "missing": missing, "repair": repair}


def repair_line(missing: list[str]) -> str:
    """The command that brings missing CUDA libraries, "" if none is missing."""
    if not missing:
        return ""
    major = cuda_build().partition(".")[0]
    suffix = "" if major.isdigit() and int(major) >= 13 else f"-cu{major}"
    packages = set()
    for library in missing:
        stem = library.partition(".so")[0]
        if stem.startswith("libcudnn"):
            packages.add(f"nvidia-cudnn-cu{major}")
        elif stem in _BRINGS:
            packages.add(_BRINGS[stem] + suffix)
        else:
            return "pip install 'convattn-zoo[cuda]'"
    return f"pip install {' '.join(sorted(packages))}"


def gpu_report() -> dict[str, str]:
    """Device, driver, CUDA build and library versions, for `convattn doctor`."""
    preload_cuda()
    return gpu_facts()
