"""Execution providers of libraries that are not part of onnxruntime: plugins.

A library is code. It is loaded only where somebody names its path; what it brings is asked of
onnxruntime itself (`get_ep_devices`), and whether a session runs there is proven as for any other
provider: the new way to choose one falls back to the CPU as quietly as the old one.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError, NotFoundError, ProviderError

from .builtin import BUILT_IN, PLACES, PROVIDERS, import_runtime

_brought: dict[str, str] = {}  # provider -> name of the library's file
_turn = threading.Lock()  # onnxruntime keeps its libraries for the whole process


def load_library(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Load a library of execution providers into this process.

    Returns: names of the providers that it brings, those of which there is a device here.
    Raises: NotFoundError, ProviderError if it does not load or brings none.
    """
    file = Path(path)
    if not file.is_file():
        raise NotFoundError(f"no such file: {str(path)[-100:]!r}; expected a provider's library")
    runtime = import_runtime()
    with _turn:
        before = {device.ep_name for device in runtime.get_ep_devices()}
        try:
            runtime.register_execution_provider_library(file.name, str(file.resolve()))
        except Exception as error:
            raise ProviderError(f"{file.name} does not load: {_reason(error, file)}") from None
        names = sorted({device.ep_name for device in runtime.get_ep_devices()} - before)
        if not names:
            runtime.unregister_execution_provider_library(file.name)
            raise ProviderError(
                f"{file.name} loads, but finds no device of its own here; check its hardware and "
                "driver, or use --provider cpu"
            )
        _brought.update(dict.fromkeys(names, file.name))
    return tuple(names)


def _reason(error: Exception, file: Path) -> str:
    """Why, without places of this machine."""
    text = str(error).replace(str(file.resolve()), file.name).splitlines()[0]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)[:300]


def brought_names() -> tuple[str, ...]:
    """Providers that loaded libraries brought."""
    return tuple(_brought)


def devices_of(provider: str) -> list[Any]:
    """onnxruntime's devices of a provider of a plugin; none for its own providers."""
    if provider not in _brought:
        return []
    return [d for d in import_runtime().get_ep_devices() if d.ep_name == provider]


def plugin_facts(provider: str) -> dict[str, Any]:
    """The library of a provider and its devices, for the attestation; nothing for onnxruntime's
    own.
    """
    if provider not in _brought:
        return {}
    devices = [described(device) for device in devices_of(provider)]
    return {"library": _brought[provider], "devices": devices}


def described(device: Any) -> dict[str, str]:
    """JSON values of an entry of `get_ep_devices`."""
    return {
        "provider": device.ep_name,
        "vendor": device.ep_vendor,
        "type": str(device.device.type).rpartition(".")[2],
        "hardware": device.device.vendor,
        "version": str(dict(device.ep_metadata).get("version", "")),
    }


def list_devices() -> list[dict[str, str]]:
    """What onnxruntime's new interface lists: its own processor, and devices of plugins."""
    return [described(device) for device in import_runtime().get_ep_devices()]


def check_provider(name: str) -> None:
    """Raises: ConfigError for a provider that neither onnxruntime nor a loaded library has."""
    known = (*BUILT_IN, *_brought)
    if name not in known:
        raise ConfigError(
            f"provider must be one of {', '.join(known)}; got {name!r}. Others come in a library: "
            "--provider-library PATH"
        )


def reported_name(provider: str) -> str:
    """What reports call a provider, which may be named in either way: "cuda" is
    "CUDAExecutionProvider".

    Raises: ConfigError for one that does not exist.
    """
    if provider in (*PROVIDERS.values(), *PLACES, *_brought):
        return provider
    check_provider(provider)
    return PROVIDERS.get(provider, "openvino-cpu")
