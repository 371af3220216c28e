"""What really ran: providers of a session, the placement of every node, device and libraries."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
from collections import Counter
from typing import Any

from zoo.errors import ModelFileError, ProviderError

from .builtin import import_runtime
from .plugins import plugin_facts
from .providers import SessionSettings

_GPU = ("cuda", "tensorrt")
_LIBRARIES = {
    # library -> (file names to try, function that returns a version, decoder of the number)
    "cuda_runtime": (("libcudart.so.13", "libcudart.so.12"), "cudaRuntimeGetVersion", (1000, 10)),
    "cudnn": (("libcudnn.so.9",), "cudnnGetVersion", (10000, 100)),
}


def attest(session: Any, settings: SessionSettings) -> dict[str, Any]:
    """Proof of where a session runs, from the runtime's own record of every node.

    Returns: providers, nodes per provider, and by name and operator the nodes that are elsewhere;
        on a GPU also device, driver, CUDA and cuDNN versions.
    Raises: ProviderError if the provider took no node, or the runtime keeps no record.
    """
    runtime = import_runtime()
    wanted = settings.full_name
    if not hasattr(session, "get_provider_graph_assignment_info"):
        raise ProviderError(
            f"onnxruntime {runtime.__version__} does not record where nodes run; install 1.31 or "
            "newer"
        )
    placed: Counter[str] = Counter()
    elsewhere: list[str] = []
    for part in session.get_provider_graph_assignment_info():
        nodes = part.get_nodes()
        placed[part.ep_name] += len(nodes)
        if part.ep_name != wanted:
            elsewhere += [f"{node.op_type} {node.name} on {part.ep_name}" for node in nodes]
    if not placed.total():
        raise ModelFileError(
            "nothing is left of the graph once its constants are known: it computes nothing from "
            "an image; export it again",
            code="no_graph",
        )
    if not placed[wanted]:
        raise ProviderError(f"{wanted} leads the session but took none of its nodes")
    return {
        "providers": session.get_providers(),
        "level": settings.level,
        "nodes": dict(placed),
        "elsewhere": elsewhere,
        "onnxruntime": runtime.__version__,
        "build": runtime.get_build_info(),
        **plugin_facts(settings.provider),
        **({"tf32": settings.tf32, **gpu_facts()} if settings.provider in _GPU else {}),
    }


def gpu_facts() -> dict[str, str]:
    """Device, driver and CUDA libraries; "unknown" where they do not say."""
    return {**device(), "cuda_build": cuda_build(), **library_versions()}


def device() -> dict[str, str]:
    """Name, driver and compute capability of the first NVIDIA GPU, from its own tool."""
    keys = ("device", "driver", "compute_capability")
    query = "--query-gpu=name,driver_version,compute_cap"
    command = ["nvidia-smi", query, "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        values = [value.strip() for value in done.stdout.splitlines()[0].split(",")]
        return dict(zip(keys, values, strict=True))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return dict.fromkeys(keys, "unknown")


def cuda_build() -> str:
    """The CUDA version that this onnxruntime was built for; "none" for a CPU build."""
    with contextlib.suppress(ImportError, AttributeError):
        from onnxruntime.capi import build_and_package_info

        return str(build_and_package_info.cuda_version)
    return "none"


def library_versions() -> dict[str, str]:
    """Versions that the loaded CUDA runtime and cuDNN report themselves."""
    found = {}
    for name, (files, function, scale) in _LIBRARIES.items():
        number = next((n for n in (_ask(file, function) for file in files) if n), 0)
        major, rest = divmod(number, scale[0])
        found[name] = f"{major}.{rest // scale[1]}" if number else "unknown"
    return found


def _ask(file: str, function: str) -> int:
    """The version number of a library, or 0 if it is not there."""
    try:
        library = ctypes.CDLL(file)
        if function == "cudnnGetVersion":
            library.cudnnGetVersion.restype = ctypes.c_size_t
            return int(library.cudnnGetVersion())
        number = ctypes.c_int(0)
        failed = getattr(library, function)(ctypes.byref(number))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else number.value
