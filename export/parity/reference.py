"""The float64 reference that every exported file is compared with, and eager float32's own
error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ExportError, InputError

from ..formats.axes import eval_copy
from ..formats.surroundings import clean_room, own_failure
from ..spec import OUTPUT_NAME, ExportSpec
from .inputs import TestInputs, make_inputs

if TYPE_CHECKING:
    from torch import nn

    from zoo.factory.description import PretrainedCfg


Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Reference:
    """Inputs, what the model computes on them in float64, and how far eager float32 is from that.

    Args:
        inputs: the test inputs, n rows, all of one image size.
        logits: float64 (n, classes); any other output is flattened to (n, values).
        eager_error: float64 (n,): largest absolute error of eager float32 per row, over all batch
            sizes.
        output: name of the output.
    """

    inputs: TestInputs
    logits: Array
    eager_error: Array
    output: str = OUTPUT_NAME

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the test inputs."""
        height, width = self.inputs.batch.shape[-2:]
        return int(height), int(width)


def reference_for(
    model: nn.Module, cfg: PretrainedCfg, spec: ExportSpec, size: tuple[int, int] | None = None
) -> Reference:
    """The float64 reference of a model on the standard inputs, at its own size or another one."""
    inputs = replace(cfg.input, size=size) if size is not None else cfg.input
    return compute_reference(model, make_inputs(inputs, spec.seed), spec.batches)


def float64_outputs(model: nn.Module, batch: Array, names: Sequence[str]) -> dict[str, Array]:
    """All outputs of a float64 copy, by name, each flattened to float64 (n, values).

    Raises: ConfigError (code "model_input") if the model itself fails on such images.
    """
    import torch

    double = eval_copy(model).double()
    with torch.no_grad(), own_failure(model, batch.shape[1:]):
        answers = [
            double(torch.from_numpy(batch[i : i + 2]).double()) for i in range(0, len(batch), 2)
        ]
    parts = [_by_name(answer, names) for answer in answers]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def compute_reference(model: nn.Module, inputs: TestInputs, batches: tuple[int, ...]) -> Reference:
    """Run the model in float64 once and in float32 at every batch size."""
    return compute_references(model, inputs, batches, (OUTPUT_NAME,))[OUTPUT_NAME]


@clean_room()
def compute_references(
    model: nn.Module, inputs: TestInputs, batches: tuple[int, ...], names: Sequence[str]
) -> dict[str, Reference]:
    """One reference per output of a model that returns a tensor, a sequence or a dict of them.

    Args:
        names: of the outputs, in order.
    """
    truth = float64_outputs(model, inputs.batch, names)
    eager = eager_runner(model, names)
    expected = np.concatenate(list(truth.values()), axis=1)

    def run(batch: Array) -> Array:
        return np.concatenate(list(eager(batch).values()), axis=1)

    errors = [np.abs(run_in_batches(run, inputs.batch, size) - expected) for size in batches]
    edges = np.cumsum([part.shape[1] for part in truth.values()])[:-1]
    parts = np.split(np.max(errors, axis=0), edges, axis=1)
    return {
        name: Reference(inputs, truth[name], part.max(1), name)
        for name, part in zip(truth, parts, strict=True)
    }


def eager_runner(
    model: nn.Module, names: Sequence[str] = (OUTPUT_NAME,), device: str = "cpu"
) -> Any:
    """Eager float32 as a candidate: float32 (B, C, H, W) -> outputs by name."""
    import torch

    single = eval_copy(model).float().to(device)

    def run(batch: Array) -> dict[str, Array]:
        with torch.no_grad():
            return _by_name(single(torch.from_numpy(batch).to(device)), names)

    return run


def _by_name(answer: Any, names: Sequence[str]) -> dict[str, Array]:
    """Outputs as flat arrays (B, values). Raises: ExportError for another number of outputs."""
    import torch

    if isinstance(answer, torch.Tensor):
        answer = (answer,)
    parts = list(answer.values()) if isinstance(answer, dict) else list(answer)
    if len(parts) != len(names):
        raise ExportError(
            f"expected {len(names)} outputs ({', '.join(names)}), the model returns {len(parts)}"
        )
    return {
        name: part.cpu().numpy().reshape(len(part), -1)
        for name, part in zip(names, parts, strict=True)
    }


def run_in_batches(run: Any, batch: Array, size: int) -> Array:
    """Outputs of all rows, computed in batches of exactly `size` and flattened to (n, values).

    The last batch is filled with rows from the start; their results are dropped.
    Raises: ExportError if it cannot run at that batch size, or answers another number of rows.
    """
    rows = []
    for start in range(0, len(batch), size):
        chunk = batch[start : start + size]
        missing = size - len(chunk)
        if missing:
            chunk = np.concatenate([chunk, batch[np.arange(missing) % len(batch)]])
        try:
            answer = np.asarray(run(np.ascontiguousarray(chunk)))
        except (InputError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ExportError(f"it does not run at batch {size}: {reason}") from None
        if answer.ndim < 2 or len(answer) != size:
            raise ExportError(
                f"expected an output ({size}, ...) for a batch of {size}; got {answer.shape}: the "
                "forward must keep the batch"
            )
        rows.append(answer[: size - missing].reshape(size - missing, -1))
    return np.concatenate(rows)
