"""Run a written file at every size, batch and kind of input, against the float64 reference."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from zoo.factory.description import PretrainedCfg
from zoo.files.stages import stage

from ..formats.axes import Axes, at_size
from ..formats.outputs import Form
from ..spec import ExportSpec
from .compare import check_named
from .inputs import make_inputs
from .reference import Reference, compute_references
from .report import ParityRow

Array = np.ndarray[Any, Any]


class References:
    """The float64 references of one form of a model, at every size of its axes, computed once."""

    def __init__(self, form: Form, cfg: PretrainedCfg, spec: ExportSpec, axes: Axes) -> None:
        self.form = form
        self.spec = spec
        self.axes = axes
        self._input = cfg.input
        self._at = cache(self._compute)

    def at(self, size: tuple[int, int]) -> dict[str, Reference]:
        """By output name, at one size."""
        return self._at(size)

    @property
    def by_size(self) -> dict[tuple[int, int], Reference]:
        """Of the first output, at all sizes."""
        return {size: self.at(size)[self.form.outputs[0]] for size in self.axes.sizes}

    def within(self, axes: Axes) -> References:
        """The same numbers for a file that varies less: at the sizes of `axes`."""
        narrow = copy.copy(self)
        narrow.axes = axes
        return narrow

    def _compute(self, size: tuple[int, int]) -> dict[str, Reference]:
        stage("float64 reference", f"computing at {size[0]}x{size[1]}")
        inputs = make_inputs(at_size(self._input, size), self.spec.seed)
        return compute_references(self.form.module, inputs, self.spec.batches, self.form.outputs)


def check_file(
    path: Path, kind: str, file: str, references: References, precision: str = "float32"
) -> tuple[tuple[ParityRow, ...], dict[str, Any]]:
    """Open a file and compare all its outputs at all its sizes.

    Args:
        path: of the file, perhaps under a temporary name.
        kind: "onnx", "torchscript" or "pt2".
        file: its name in the report.
    Returns: the rows, and what the runtime attests.
    """
    if kind == "onnx":
        from ..runtime.opening import open_onnx

        session = open_onnx(path)
        run, provider, proof = session.run_named, session.provider, session.attestation
    else:
        run, provider, proof = _torch_runner(path, kind, references.form.outputs), "torch-cpu", {}
    rows: tuple[ParityRow, ...] = ()
    for size in references.axes.sizes:
        rows += check_named(run, references.at(size), file, provider, references.spec, precision)
    return rows, proof


def _torch_runner(path: Path, kind: str, outputs: tuple[str, ...]) -> Any:
    from ..formats.pt2_file import load_pt2
    from ..formats.torchscript_file import load_torchscript

    run, _ = load_pt2(path) if kind == "pt2" else load_torchscript(path)

    def run_named(batch: Array) -> dict[str, Array]:
        answer = run(batch)
        parts = answer if isinstance(answer, tuple) else (answer,)
        return dict(zip(outputs, parts, strict=True))

    return run_named
