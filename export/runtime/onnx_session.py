"""Three ways to run an onnxruntime session: plainly, with inputs bound to the GPU, as a CUDA graph.

Each is a function from a batch to outputs by name. The first two may be called from many threads at
once (a binding belongs to one call); a CUDA graph replays fixed addresses, so its calls take turns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.errors import InputError

from .batches import prepare_batch
from .builtin import import_runtime

Array = np.ndarray[Any, Any]


def plain_runner(session: Any) -> Callable[[Array], dict[str, Array]]:
    """Inputs and outputs in CPU memory."""
    stated = session.get_inputs()[0]
    names = [value.name for value in session.get_outputs()]

    def run(batch: Array) -> dict[str, Array]:
        ready = prepare_batch(batch, stated.shape, stated.type)
        try:
            answers = session.run(names, {stated.name: ready})
        except Exception as error:
            raise _refused(error, ready, stated.shape) from None
        return dict(zip(names, answers, strict=True))

    return run


def bound_runner(session: Any) -> Callable[[Array], dict[str, Array]]:
    """Inputs copied to the GPU once, outputs allocated there and copied back at the end."""
    runtime = import_runtime()
    stated = session.get_inputs()[0]
    names = [value.name for value in session.get_outputs()]

    def run(batch: Array) -> dict[str, Array]:
        ready = prepare_batch(batch, stated.shape, stated.type)
        try:
            binding = session.io_binding()
            value = runtime.OrtValue.ortvalue_from_numpy(ready, "cuda", 0)
            binding.bind_ortvalue_input(stated.name, value)
            for name in names:
                binding.bind_output(name, "cuda")
            session.run_with_iobinding(binding)
            answers = binding.copy_outputs_to_cpu()
        except Exception as error:
            raise _refused(error, ready, stated.shape) from None
        return dict(zip(names, answers, strict=True))

    return run


class CudaGraph:
    """Kernels captured at the first call of every input shape and replayed afterwards.

    onnxruntime keeps one graph per annotation id; the addresses of inputs and outputs must stay, so
    both are allocated once per shape and refilled in place.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0]
        self._names = [value.name for value in session.get_outputs()]
        self._captured: dict[tuple[int, ...], tuple[Any, Any, Any]] = {}
        self._turn = threading.Lock()

    def __call__(self, batch: Array) -> dict[str, Array]:
        """Outputs by name. Raises: InputError."""
        ready = prepare_batch(batch, self._input.shape, self._input.type)
        with self._turn:
            try:
                value, binding, options = self._captured_for(ready)
                value.update_inplace(ready)
                self._session.run_with_iobinding(binding, options)
                answers = [np.array(answer) for answer in binding.copy_outputs_to_cpu()]
            except Exception as error:
                raise _refused(error, ready, self._input.shape) from None
        return dict(zip(self._names, answers, strict=True))

    def _captured_for(self, ready: Array) -> tuple[Any, Any, Any]:
        """Input value, binding and run options of a shape; new ones for a new shape."""
        if ready.shape not in self._captured:
            runtime = import_runtime()
            value = runtime.OrtValue.ortvalue_from_numpy(ready, "cuda", 0)
            outputs = self._outputs_like(value)
            binding = self._session.io_binding()
            binding.bind_ortvalue_input(self._input.name, value)
            for name, output in zip(self._names, outputs, strict=True):
                binding.bind_ortvalue_output(name, output)
            options = runtime.RunOptions()
            options.add_run_config_entry("gpu_graph_id", str(len(self._captured) + 1))
            self._captured[ready.shape] = (value, binding, options)
        return self._captured[ready.shape]

    def _outputs_like(self, value: Any) -> list[Any]:
        """Outputs of the right shapes on the device, found by one run without a graph."""
        runtime = import_runtime()
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input.name, value)
        for name in self._names:
            binding.bind_output(name, "cuda")
        options = runtime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", "-1")  # -1: neither capture nor replay
        self._session.run_with_iobinding(binding, options)
        return list(binding.get_outputs())


def _refused(error: Exception, batch: Array, shape: Any) -> InputError:
    """Our words for a refusal; the runtime's own name files of its build."""
    return InputError(
        f"the graph refused an input of shape {batch.shape} ({type(error).__name__}); it takes "
        f"{tuple(shape)}"
    )
