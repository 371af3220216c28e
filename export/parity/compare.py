"""Parity as an error budget: how far a candidate is from the float64 reference, and whether that is
close enough.

The budget is the error that eager float32 itself makes: a fixed tolerance is either too loose for a
small model or too tight for a large one (`ExportSpec`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zoo.errors import ConfigError, ExportError

from ..runtime.plugins import reported_name
from ..spec import OUTPUT_NAME, ExportSpec
from .reference import Reference, run_in_batches
from .report import NEIGHBOURS, ParityRow

Array = np.ndarray[Any, Any]

PRECISIONS = ("float32", "float16", "int8")
_LEAST_SPREAD = 0.1  # of the reference's answers around their mean, for int8
GPU_PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "torch-cuda")


def check_parity(
    run: Callable[[Array], Array],
    reference: Reference,
    file: str,
    provider: str,
    spec: ExportSpec,
    tf32: bool = False,
    precision: str = "float32",
    level: str = "",
) -> tuple[ParityRow, ...]:
    """Compare a candidate with the reference at every batch size and kind of input, and with itself
    where an image has other neighbours in its batch.

    Args:
        run: float32 (B, C, H, W) -> output (B, ...); logits unless the reference says otherwise.
        reference: at one image size; call again for others.
        file, provider, level: for the report; the provider takes part in the limit. It is named as
            everywhere ("cuda"), or as reports do ("CUDAExecutionProvider", "torch-cuda").
        tf32: whether the CUDA provider may use TF32.
        precision: "float32", "float16" or "int8"; picks the limit.
    Raises: ExportError if the candidate does not run at a batch size, or answers with another
        number of values; ConfigError for a precision or provider that does not exist, or for
        nothing to compare.
    """
    provider = reported_name(provider)
    if not len(reference.inputs.batch):
        raise ConfigError("the reference has no inputs, so nothing would be compared")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    rows: list[ParityRow] = []
    kinds = np.asarray(reference.inputs.kinds)
    for batch in spec.batches:
        logits = run_in_batches(run, reference.inputs.batch, batch).astype(np.float64)
        _check_width(logits, reference, file)
        same = precision == "int8" and _answers_alike(logits, reference.logits)
        for kind in dict.fromkeys(reference.inputs.kinds):
            where = _Where(file, provider, precision, level, tf32, batch, kind)
            with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity fail below
                row = _compare(logits, reference, kinds == kind, where, spec)
            rows.append(replace(row, passed=row.passed and not same))
        if batch > 1 and all(row.inputs != NEIGHBOURS for row in rows):
            where = _Where(file, provider, precision, level, tf32, batch, NEIGHBOURS)
            rows.append(_with_other_neighbours(run, logits, reference, where, spec))
    return tuple(rows)


def _check_width(logits: Array, reference: Reference, file: str) -> None:
    """Raises: ExportError."""
    if logits.shape != reference.logits.shape:
        raise ExportError(
            f"{file} answers with {logits.shape[1]} values for an image; the reference has "
            f"{reference.logits.shape[1]} ({reference.output})"
        )


def _answers_alike(actual: Array, expected: Array) -> bool:
    """Whether answers differ between images far less than they should, as constants do."""
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity fail elsewhere
        ours, theirs = (float(np.linalg.norm(x - x.mean(0))) for x in (actual, expected))
    return ours < _LEAST_SPREAD * theirs


def _with_other_neighbours(
    run: Callable[[Array], Array], logits: Array, reference: Reference, where: _Where,
    spec: ExportSpec,
) -> ParityRow:  # fmt: skip
    """The first image of each kind again, in a batch with others: its answer must not change.

    Dynamic int8 measures one range for a whole batch, so that there it does; the row says how much.
    """
    kinds = reference.inputs.kinds
    first = [kinds.index(kind) for kind in dict.fromkeys(kinds)]
    half = len(first) // 2
    order = [i for pair in zip(first[:half], first[::-1], strict=False) for i in pair]
    order += first[half : len(first) - half]  # the middle one of an odd number
    again = np.zeros_like(logits)
    again[order] = run_in_batches(run, reference.inputs.batch[order], where.batch)
    chosen = np.isin(np.arange(len(logits)), order)
    with np.errstate(invalid="ignore", over="ignore"):
        return _compare(again, replace(reference, logits=logits), chosen, where, spec)


def check_named(
    run: Callable[[Array], Mapping[str, Array]],
    references: Mapping[str, Reference],
    file: str,
    provider: str,
    spec: ExportSpec,
    precision: str = "float32",
    tf32: bool = False,
    level: str = "",
) -> tuple[ParityRow, ...]:
    """`check_parity` for a file with several outputs, one reference per name."""
    if not references:
        raise ConfigError(f"{file} has no output that could be compared")
    rows: tuple[ParityRow, ...] = ()
    for name, reference in references.items():

        def one(batch: Array, name: str = name) -> Array:
            answers = run(batch)
            if name not in answers:
                raise ConfigError(f"{file} has no output {name!r}; it has {', '.join(answers)}")
            return answers[name]

        rows += check_parity(one, reference, file, provider, spec, tf32, precision, level)
    return rows


@dataclass(frozen=True)
class _Where:
    file: str
    provider: str
    precision: str
    level: str
    tf32: bool
    batch: int
    kind: str


def _compare(
    logits: Array, reference: Reference, chosen: Array, where: _Where, spec: ExportSpec
) -> ParityRow:
    actual, expected = logits[chosen], reference.logits[chosen]
    error = np.abs(actual - expected)
    per_image = error.max(1)
    worst = float(per_image.max())
    eager = float(reference.eager_error[chosen].max())
    limit = error_limit(
        eager, float(np.abs(expected).max()), where.provider, where.tf32, spec, where.precision
    )
    relative, cosine = _relative_l2(actual, expected), _cosine(actual, expected)
    classes = reference.output == OUTPUT_NAME and expected.shape[1] > 1
    same = actual.argmax(1) == expected.argmax(1)
    clear = _clear_agreement(same, expected, per_image) if classes else 1.0
    passed = (
        bool(np.isfinite(actual).all())
        and worst <= limit
        and clear >= _needed_top1(where, spec)
        and (where.precision != "int8" or relative < spec.int8_relative_l2)
    )
    return ParityRow(
        file=where.file,
        provider=where.provider,
        precision=where.precision,
        level=where.level,
        tf32=where.tf32,
        output=reference.output,
        size=reference.size,
        batch=where.batch,
        inputs=where.kind,
        max_abs_error=worst,
        mean_abs_error=float(error.mean()),
        eager_max_abs_error=eager,
        limit=limit,
        relative_l2=relative,
        cosine=cosine,
        kl=_kl(actual, expected) if classes else math.nan,
        top1_agreement=float(same.mean()) if classes else math.nan,
        top5_agreement=_top5_agreement(actual, expected) if classes else math.nan,
        clear_top1_agreement=clear,
        passed=passed,
    )


def error_limit(
    eager: float,
    largest_logit: float,
    provider: str,
    tf32: bool,
    spec: ExportSpec,
    precision: str = "float32",
) -> float:
    """The largest error that passes, for logits whose largest absolute value is `largest_logit`.

    int8 has none: what counts is the accuracy that it loses, measured on labelled images.
    Raises: ConfigError for a provider that does not exist.
    """
    provider = reported_name(provider)
    if precision == "int8":
        return math.inf
    if precision == "float16":
        return spec.float16
    scale = max(1.0, largest_logit)
    if provider in GPU_PROVIDERS:
        return spec.cuda_tf32 if tf32 else spec.cuda
    return min(spec.eager_ratio * eager + spec.eager_slack * scale, spec.absolute * scale)


def _needed_top1(where: _Where, spec: ExportSpec) -> float:
    """Share of equal answers, among images whose margin exceeds the error, that passes."""
    if where.precision == "int8":
        return 0.0
    if where.precision == "float16":
        return spec.float16_top1
    return spec.cuda_tf32_top1 if where.tf32 else 1.0


def _clear_agreement(same: Array, expected: Array, error: Array) -> float:
    top = np.sort(expected, axis=1)
    clear = (top[:, -1] - top[:, -2]) > error
    return float(same[clear].mean()) if clear.any() else 1.0


def _top5_agreement(actual: Array, expected: Array) -> float:
    """Share of the reference's five most probable classes that the candidate's five contain."""
    count = min(5, expected.shape[1])
    ours, theirs = (np.argsort(-x, axis=1, kind="stable")[:, :count] for x in (actual, expected))
    common = [len(set(a) & set(b)) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    return float(np.mean(common)) / count


def _relative_l2(actual: Array, expected: Array) -> float:
    """Of the worst image; an error against a reference of zeros is infinite."""
    error, norm = (np.linalg.norm(x, axis=1) for x in (actual - expected, expected))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(error == 0, 0.0, error / norm)
    return float(relative.max())


def _cosine(actual: Array, expected: Array) -> float:
    """Of the worst image; 1 where both are zero."""
    product = (actual * expected).sum(1)
    norms = np.linalg.norm(actual, axis=1) * np.linalg.norm(expected, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where((actual == expected).all(1), 1.0, product / norms)
    return float(np.clip(cosine, -1.0, 1.0).min())


def _kl(actual: Array, expected: Array) -> float:
    """sum p (log p - log q) with p, q the softmax of reference and candidate; worst image."""
    log_p, log_q = _log_softmax(expected), _log_softmax(actual)
    divergence = (np.exp(log_p) * (log_p - log_q)).sum(1).max()
    return float(np.maximum(divergence, 0.0))  # NaN stays NaN; rounding may give -1e-17


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result
