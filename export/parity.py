"""Parity as a result: how far a candidate is from the float64 reference, and whether that is close
enough.

The budget is the error that eager float32 itself makes: a fixed tolerance is either too loose for a
small model or too tight for a large one (`ExportSpec`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .reference import Reference, run_in_batches
from .spec import ExportSpec

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ParityRow:
    """One candidate at one batch size on one kind of input.

    Args:
        file: what was run, e.g. "onnx/model.onnx".
        provider: where it ran, e.g. "CPUExecutionProvider" or "torch-cpu".
        batch, inputs: batch size and kind of input.
        max_abs_error, mean_abs_error: against the float64 reference.
        eager_max_abs_error: what eager float32 makes on the same inputs.
        limit: largest `max_abs_error` that passes.
        top1_agreement: share of equal top-1 answers among those whose margin exceeds the error.
        passed: the verdict.
    """

    file: str
    provider: str
    batch: int
    inputs: str
    max_abs_error: float
    mean_abs_error: float
    eager_max_abs_error: float
    limit: float
    top1_agreement: float
    passed: bool

    @property
    def ratio(self) -> float:
        """Error in units of eager float32's own (0 if both are exact)."""
        if self.eager_max_abs_error == 0:
            return 0.0 if self.max_abs_error == 0 else float("inf")
        return self.max_abs_error / self.eager_max_abs_error


@dataclass(frozen=True)
class ParityReport:
    """All rows of a comparison. True if every row passed and there is at least one.

    Args:
        name, version, weights_sha256: of the model.
        rows: measurements.
        attestation: per file: providers of the session, placement of its nodes, device, versions.
        versions: of the packages that took part.
    """

    name: str
    version: str
    weights_sha256: str
    rows: tuple[ParityRow, ...]
    attestation: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.rows) and all(row.passed for row in self.rows)

    @property
    def failures(self) -> tuple[ParityRow, ...]:
        """Rows that did not pass."""
        return tuple(row for row in self.rows if not row.passed)

    def summary(self) -> list[dict[str, Any]]:
        """One entry per file and provider: the worst of its rows."""
        found: dict[tuple[str, str], list[ParityRow]] = {}
        for row in self.rows:
            found.setdefault((row.file, row.provider), []).append(row)
        return [
            {
                "file": file,
                "provider": provider,
                "max_abs_error": max(r.max_abs_error for r in rows),
                "eager_max_abs_error": max(r.eager_max_abs_error for r in rows),
                "ratio": max(r.max_abs_error for r in rows)
                / (max(r.eager_max_abs_error for r in rows) or float("nan")),
                "top1_agreement": min(r.top1_agreement for r in rows),
                "batches": sorted({r.batch for r in rows}),
                "passed": all(r.passed for r in rows),
            }
            for (file, provider), rows in found.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the content of parity.json."""
        return {
            "format_version": 1,
            "name": self.name,
            "version": self.version,
            "weights_sha256": self.weights_sha256,
            "passed": bool(self),
            "reference": "the model in float64, eager, CPU",
            "summary": self.summary(),
            "rows": [{**asdict(row), "ratio": row.ratio} for row in self.rows],
            "attestation": self.attestation,
            "versions": self.versions,
        }

    def to_json(self) -> str:
        """`to_dict` as text; infinities and NaN, which JSON lacks, become null."""
        return json.dumps(_json_numbers(self.to_dict()), indent=2, allow_nan=False) + "\n"


def _json_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_numbers(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_parity(
    run: Callable[[Array], Array],
    reference: Reference,
    file: str,
    provider: str,
    spec: ExportSpec,
    tf32: bool = False,
) -> tuple[ParityRow, ...]:
    """Compare a candidate with the reference at every batch size and kind of input.

    Args:
        run: float32 (B, C, H, W) -> logits (B, classes).
        file, provider: for the report; the provider decides the limit.
        tf32: whether the CUDA provider may use TF32.
    """
    rows: list[ParityRow] = []
    kinds = np.asarray(reference.inputs.kinds)
    for batch in spec.batches:
        logits = run_in_batches(run, reference.inputs.batch, batch).astype(np.float64)
        for kind in dict.fromkeys(reference.inputs.kinds):
            chosen = kinds == kind
            rows.append(
                _compare(
                    logits[chosen],
                    reference.logits[chosen],
                    reference.eager_error[chosen],
                    _Where(file, provider, batch, kind, tf32),
                    spec,
                )
            )
    return tuple(rows)


@dataclass(frozen=True)
class _Where:
    file: str
    provider: str
    batch: int
    kind: str
    tf32: bool


def _compare(
    actual: Array, expected: Array, eager_error: Array, where: _Where, spec: ExportSpec
) -> ParityRow:
    error = np.abs(actual - expected)
    per_row = error.max(1)
    worst = float(per_row.max())
    eager = float(eager_error.max())
    limit = error_limit(eager, float(np.abs(expected).max()), where.provider, where.tf32, spec)
    agreement = _top1_agreement(actual, expected, per_row)
    needed = spec.cuda_tf32_top1 if where.tf32 else 1.0
    finite = bool(np.isfinite(actual).all())
    return ParityRow(
        file=where.file,
        provider=where.provider,
        batch=where.batch,
        inputs=where.kind,
        max_abs_error=worst,
        mean_abs_error=float(error.mean()),
        eager_max_abs_error=eager,
        limit=limit,
        top1_agreement=agreement,
        passed=finite and worst <= limit and agreement >= needed,
    )


def error_limit(
    eager: float, largest_logit: float, provider: str, tf32: bool, spec: ExportSpec
) -> float:
    """The largest error that passes, for logits whose largest absolute value is `largest_logit`."""
    scale = max(1.0, largest_logit)
    if provider in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
        return spec.cuda_tf32 if tf32 else spec.cuda
    return min(spec.eager_ratio * eager + spec.eager_slack * scale, spec.absolute * scale)


def _top1_agreement(actual: Array, expected: Array, error: Array) -> float:
    """Share of equal answers where the reference's margin is larger than twice the row's error."""
    if expected.shape[1] < 2:
        return 1.0
    top = np.sort(expected, axis=1)
    clear = (top[:, -1] - top[:, -2]) > 2 * error
    if not clear.any():
        return 1.0
    return float((actual.argmax(1) == expected.argmax(1))[clear].mean())
