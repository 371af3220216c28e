"""The float64 reference that every exported file is compared with, and eager float32's own
error.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ExportError, InputError

from .samples import TestInputs

if TYPE_CHECKING:
    from torch import nn

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Reference:
    """Inputs, what the model computes on them in float64, and how far eager float32 is from that.

    Args:
        inputs: the test inputs, n rows.
        logits: float64 (n, classes).
        eager_error: float64 (n,): largest absolute error of eager float32 per row, over all batch
            sizes.
    """

    inputs: TestInputs
    logits: Array
    eager_error: Array


def eval_copy(model: nn.Module) -> nn.Module:
    """A copy of a model in eval mode on the CPU, without gradients: attention with a learned bias
    has another memory layout with them, which the exporters get wrong. The model is not touched.
    """
    return copy.deepcopy(model).cpu().eval().requires_grad_(False)


def float64_logits(model: nn.Module, batch: Array) -> Array:
    """Logits of a float64 copy of the model, eager, on the CPU. Returns: float64 (n, classes)."""
    import torch

    double = eval_copy(model).double()
    with torch.no_grad():
        rows = [
            double(torch.from_numpy(batch[i : i + 2]).double()) for i in range(0, len(batch), 2)
        ]
    return torch.cat(rows).numpy()


def compute_reference(model: nn.Module, inputs: TestInputs, batches: tuple[int, ...]) -> Reference:
    """Run the model in float64 once and in float32 at every batch size."""
    import torch

    logits = float64_logits(model, inputs.batch)
    single = eval_copy(model).float()

    def run(batch: Array) -> Array:
        with torch.no_grad():
            return single(torch.from_numpy(batch)).numpy()

    errors = [np.abs(run_in_batches(run, inputs.batch, size) - logits).max(1) for size in batches]
    return Reference(inputs, logits, np.max(errors, axis=0))


def run_in_batches(run: Any, batch: Array, size: int) -> Array:
    """Logits of all rows, computed in batches of exactly `size`.

    The last batch is filled with rows from the start; their results are dropped.
    Raises: ExportError if it cannot run at that batch size, or answers another number of rows.
    """
    rows = []
    for start in range(0, len(batch), size):
        chunk = batch[start : start + size]
        missing = size - len(chunk)
        if missing:
            chunk = np.concatenate([chunk, batch[:missing]])
        try:
            answer = np.asarray(run(np.ascontiguousarray(chunk)))
        except (InputError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ExportError(f"it does not run at batch {size}: {reason}") from None
        if answer.ndim != 2 or len(answer) != size:
            raise ExportError(
                f"expected logits ({size}, classes) for a batch of {size}; got {answer.shape}: the "
                "forward must keep the batch and return one vector per image"
            )
        rows.append(answer[: size - missing])
    return np.concatenate(rows)
