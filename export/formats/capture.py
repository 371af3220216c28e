"""Models as `torch.export` programs: one capture, from which .onnx and .pt2 are written."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.errors import ExportError, InputError

from ..graph.checks import root_cause
from .axes import Axes, eval_copy
from .surroundings import own_failure

if TYPE_CHECKING:
    from torch.export import ExportedProgram


Array = np.ndarray[Any, Any]

_TELLTALES = ("stack_trace", "source_fn_stack", "from_node")  # hold paths of the building machine


def capture(model: nn.Module, in_chans: int, axes: Axes) -> ExportedProgram:
    """Capture a float32 copy of a model in eval mode. The model is not touched.

    Raises: ExportError if the model's forward cannot be captured with these axes; ConfigError if it
        fails on images of its own size.
    """
    import torch

    example = torch.zeros(2, in_chans, *axes.example)
    copied = eval_copy(model).float()
    if axes.multiple:
        pool_any_size(copied)
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(copied, (example,), dynamic_shapes=axes.dynamic_shapes())
    except Exception as error:  # the exporter raises whatever the model's code raises
        own = torch.zeros(2, in_chans, *axes.size)  # of the example one does not choose the size
        with own_failure(model, own.shape[1:]), torch.no_grad():
            copied(own)
        what = " with dynamic height and width" if axes.multiple else ""
        raise ExportError(
            f"torch.export could not capture {type(model).__name__}{what}: {_reason(error)}"
        ) from error
    _check_free(program, axes, type(model).__name__)
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            for key in _TELLTALES:
                node.meta.pop(key, None)
    return program


def _reason(error: Exception) -> str:
    """What the exporter says; of a branch on the values of an image, the line that has it."""
    frames = re.findall(r'File "(.+)", line (\d+), in .*\n *(.+)', str(error))
    if "data-dependent" not in str(error) or not frames:
        return root_cause(error)
    file, line, code = frames[-1]
    return (
        f"line {line} of {os.path.basename(file)} ({code.strip()[:80]}) depends on the values of "
        "the image, of which a graph knows the shape only; choose with torch.where"
    )


def _check_free(program: ExportedProgram, axes: Axes, name: str) -> None:
    """Raises: ExportError where a size that may vary was fixed, or tied to the other, on the way:
    `Dim.AUTO` allows it without a word.
    """
    if axes.multiple != 1:
        return
    nodes = {node.name: node for node in program.graph.nodes}
    shape = nodes[program.graph_signature.user_inputs[0]].meta["val"].shape
    sides = {str(side) for side in shape[2:] if isinstance(side, torch.SymInt)}
    if len(sides) < 2:
        raise ExportError(
            f"torch.export fixes the size of {name} to {tuple(shape[2:])} on the way; export it in "
            "whole strides, or at a fixed size"
        )


def torch_runner(module: nn.Module, device: str) -> Callable[[Array], Any]:
    """A loaded module as a function on arrays; of a sequence or a dict outputs come as a tuple."""
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
        parts = answer.values() if isinstance(answer, Mapping) else answer
        return tuple(part.cpu().numpy() for part in parts)

    return run


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
        aside = io.StringIO()
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(aside),
            contextlib.redirect_stderr(aside),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class WindowMeans(nn.AdaptiveAvgPool2d):
    """The same function as its base class, for sides that are symbols.

    Shape: (B, C, H, W) -> (B, C, *output_size).
    """

    def forward(self, input: Tensor) -> Tensor:
        size = self.output_size
        rows, columns = size if isinstance(size, tuple) else (size, size)
        across = _shares(input, 3, columns).transpose(0, 1)  # (W, columns)
        return _shares(input, 2, rows) @ (input @ across)


def _shares(x: Tensor, axis: int, count: int | None) -> Tensor:
    """Share of every row (or column) of a map in every window. Shape: (count, side)."""
    side = x.shape[axis]
    if count is None:  # as many windows as rows
        return torch.eye(side, dtype=x.dtype)
    window = torch.arange(count).unsqueeze(1)
    first = window * side // count
    end = ((window + 1) * side + count - 1) // count
    place = torch.arange(side).unsqueeze(0)
    inside = (place >= first) & (place < end)
    return inside.to(x.dtype) / (end - first).to(x.dtype)


def pool_any_size(model: nn.Module) -> None:
    """Put `WindowMeans` in place of adaptive pools of more than one window; changes the model."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.AdaptiveAvgPool2d and child.output_size not in (1, (1, 1)):
                setattr(parent, name, WindowMeans(child.output_size))
