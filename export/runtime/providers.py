"""Sessions on the execution provider that was asked for, or not at all.

`onnxruntime` quietly runs on the CPU when CUDA is missing, and lists CUDA as available on machines
without a GPU. The proof is the session itself: its providers, and its record of every node.
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zoo.errors import ConfigError, ProviderError

from .builtin import OPENVINO, PROVIDERS, import_runtime
from .model_files import ModelFile, explain
from .plugins import check_provider, devices_of

LEVELS = ("disabled", "basic", "extended", "all")
_LEVEL_NAMES = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_stdout = threading.Lock()  # redirect_stdout is process-wide


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How a session runs.

    Args:
        provider: "cpu", "cuda", "tensorrt", "openvino", or the name of a plugin's.
        tf32: whether CUDA may use TensorFloat-32.
        threads: intra-op threads; 0 lets the runtime choose.
        level: graph optimisation of onnxruntime: "disabled", "basic", "extended" or "all".
        cuda_graph: capture the kernels of each input shape once and replay them.
        trust_code: run .pt and .pt2 files, which are code, whoever exported them.
    Raises: ConfigError.
    """

    provider: str = "cpu"
    tf32: bool = True
    threads: int = 0
    level: str = "all"
    cuda_graph: bool = False
    trust_code: bool = False

    def __post_init__(self) -> None:
        check_provider(self.provider)
        if self.level not in LEVELS:
            raise ConfigError(f"level must be one of {', '.join(LEVELS)}; got {self.level!r}")
        if self.level != LEVELS[-1] and self.provider == OPENVINO:
            raise ConfigError(f"levels are onnxruntime's, OpenVINO has none; got {self.level!r}")
        if self.threads < 0:
            raise ConfigError(f"threads must be 0 (automatic) or more; got {self.threads}")
        if self.cuda_graph and self.provider != "cuda":
            raise ConfigError(f"CUDA graphs need provider cuda; got {self.provider!r}")

    @property
    def full_name(self) -> str:
        """As onnxruntime calls the provider."""
        return PROVIDERS.get(self.provider, self.provider)

    def provider_options(self) -> dict[str, str]:
        """Options of the provider, as onnxruntime spells them."""
        if self.provider != "cuda":
            return {}
        graph = {"enable_cuda_graph": "1"} if self.cuda_graph else {}
        return {"use_tf32": str(int(self.tf32)), **graph}


def create_session(model: ModelFile, settings: SessionSettings) -> Any:
    """An `InferenceSession` that leads with the provider asked for.

    Raises: ProviderError if it does not, ExportError if the model cannot be opened.
    """
    runtime = import_runtime()
    wanted = settings.full_name
    missing = preload_cuda() if settings.provider != "cpu" else []
    options = _options(model, settings)
    try:
        with _quiet(settings.provider != "cpu"):
            session = _open(model, options, settings)
    except Exception as error:
        if settings.provider == "cpu" or not _opens_on_cpu(model):
            raise explain(error, model, runtime.__version__) from None
        raise ProviderError(_not_run(wanted, model.name, "no session", missing)) from None
    lead = session.get_providers()[0]
    if lead != wanted:
        raise ProviderError(
            _not_run(wanted, model.name, f"the session runs on {lead}", missing)
        ) from None
    return session


def _open(model: ModelFile, options: Any, settings: SessionSettings) -> Any:
    runtime = import_runtime()
    devices = devices_of(settings.provider)
    if devices:
        options.add_provider_for_devices(devices, {})
        return runtime.InferenceSession(model.data, options)
    wanted = (settings.full_name, settings.provider_options())
    return runtime.InferenceSession(model.data, options, providers=[wanted])


def _options(model: ModelFile, settings: SessionSettings) -> Any:
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.log_severity_level = 4  # its own lines name the places where it was built
    level = _LEVEL_NAMES[settings.level]
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if model.external:
        names, buffers = list(model.external), list(model.external.values())
        sizes = [len(data) for data in buffers]
        options.add_external_initializers_from_files_in_memory(names, buffers, sizes)
    return options


def _opens_on_cpu(model: ModelFile) -> bool:
    """Whether the model itself is sound, so that the provider is to blame."""
    runtime = import_runtime()
    try:
        with _quiet(True):
            runtime.InferenceSession(
                model.data, _options(model, SessionSettings()), providers=[PROVIDERS["cpu"]]
            )
    except Exception:
        return False
    return True


@contextlib.contextmanager
def _quiet(errors_too: bool) -> Iterator[None]:
    """Nothing on stdout: on failure onnxruntime's Python layer prints there and tries again on the
    CPU. Its logger names paths inside the package.
    """
    runtime = import_runtime()
    with _stdout, contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a provider that is not in the build
        if errors_too:
            runtime.set_default_logger_severity(4)
        try:
            yield
        finally:
            if errors_too:
                runtime.set_default_logger_severity(2)


def _not_run(wanted: str, name: str, what: str, missing: list[str]) -> str:
    lacks = f", {', '.join(missing)} not found" if missing else ""
    needs = "an NVIDIA GPU, its driver and CUDA (pip install 'convattn-zoo[cuda]')"
    if wanted == PROVIDERS["tensorrt"]:
        needs = f"the TensorRT libraries, {needs}"
    if wanted not in PROVIDERS.values():
        needs = "what its library says, on a machine that has its device"
    return f"{wanted} did not run {name}: {what}{lacks}. It needs {needs}; or use --provider cpu"


def preload_cuda() -> list[str]:
    """Load the CUDA libraries that Python packages brought; returns names of those that lack."""
    runtime = import_runtime()
    said = io.StringIO()
    if hasattr(runtime, "preload_dlls"):
        with _stdout, contextlib.suppress(Exception), contextlib.redirect_stdout(said):
            runtime.preload_dlls()
    return sorted(set(re.findall(r"Failed to load (\S+?):", said.getvalue())))
