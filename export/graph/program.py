"""Models as `torch.export` programs: one capture, from which .onnx and .pt2 are written."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ExportError, InputError

from ..axes import Axes
from ..comparison.reference import eval_copy

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

Array = np.ndarray[Any, Any]

_TELLTALES = ("stack_trace", "source_fn_stack", "from_node")  # hold paths of the building machine


def capture(model: nn.Module, in_chans: int, axes: Axes) -> ExportedProgram:
    """Capture a float32 copy of a model in eval mode. The model is not touched.

    Raises: ExportError if the model's forward cannot be captured with these axes.
    """
    import torch

    example = torch.zeros(2, in_chans, *axes.example)
    copied = eval_copy(model).float()
    if axes.multiple:
        from .adaptive_pooling import pool_any_size

        pool_any_size(copied)
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(copied, (example,), dynamic_shapes=axes.dynamic_shapes())
    except Exception as error:  # the exporter raises whatever the model's code raises
        what = " with dynamic height and width" if axes.multiple else ""
        raise ExportError(
            f"torch.export could not capture {type(model).__name__}{what}: {root_cause(error)}"
        ) from error
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            for key in _TELLTALES:
                node.meta.pop(key, None)
    return program


def torch_runner(module: nn.Module, device: str) -> Callable[[Array], Any]:
    """A loaded module as a function on arrays; several outputs come as a tuple."""
    import torch

    def run(batch: Array) -> Any:
        try:
            with torch.inference_mode():
                answer = module(torch.from_numpy(batch).to(device))
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"the file refused an input of shape {batch.shape}: {root_cause(error)}"
            ) from None
        if isinstance(answer, torch.Tensor):
            return answer.cpu().numpy()
        return tuple(part.cpu().numpy() for part in answer)

    return run


def root_cause(error: BaseException) -> str:
    """First line of the innermost exception: the exporters wrap the cause in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' chatter out of stdout and stderr, and their deprecation notes out of the
    caller's way.
    """
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.fx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
