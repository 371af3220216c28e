"""Parity as a result: rows of measurements, a verdict, and the content of parity.json."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from zoo.catalog.checked_json import Document, shown
from zoo.errors import ConfigError, ParityError
from zoo.files.json_text import to_json
from zoo.files.listed import read_document

FORMAT_VERSION = 2
NEIGHBOURS = "neighbours"  # `ParityRow.inputs` of an image against itself among other images


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One candidate at one image size and batch size on one kind of input.

    Args:
        file: what was run, e.g. "onnx/model.onnx"; "eager" is the model itself in float32.
        provider: where it ran, e.g. "CPUExecutionProvider" or "torch-cpu".
        precision: "float32", "float16" or "int8".
        level: graph optimisation of onnxruntime ("disabled", "basic", "extended", "all"), or "".
        tf32: whether CUDA might use TensorFloat-32.
        output: name of the output that was compared.
        size: height and width of the images.
        batch, inputs: batch size and kind of input; "neighbours": an image of each kind beside
            other images, compared not with the reference but with its first answer.
        max_abs_error, mean_abs_error: against the float64 reference.
        eager_max_abs_error: what eager float32 makes on the same inputs.
        limit: largest `max_abs_error` that passes; infinite where another figure decides.
        relative_l2: |candidate - reference| / |reference|, of the worst image.
        cosine: of the angle between candidate and reference, of the worst image.
        kl: Kullback-Leibler divergence from the reference's softmax, in nats, of the worst image.
        top1_agreement, top5_agreement: share of equal first answers, and of equal members of the
            first five; NaN where the output has no classes.
        clear_top1_agreement: `top1_agreement` among images whose margin exceeds the error.
        passed: the verdict.
    """

    file: str
    provider: str
    precision: str
    level: str
    tf32: bool
    output: str
    size: tuple[int, int]
    batch: int
    inputs: str
    max_abs_error: float
    mean_abs_error: float
    eager_max_abs_error: float
    limit: float
    relative_l2: float
    cosine: float
    kl: float
    top1_agreement: float
    top5_agreement: float
    clear_top1_agreement: float
    passed: bool

    @property
    def ratio(self) -> float:
        """Error in units of eager float32's own (0 if both are exact)."""
        if self.eager_max_abs_error == 0:
            return 0.0 if self.max_abs_error == 0 else float("inf")
        return self.max_abs_error / self.eager_max_abs_error


class _Content(TypedDict):
    name: str
    version: str
    weights_sha256: str
    rows: list[dict[str, Any]]
    attestation: dict[str, Any]
    versions: dict[str, str]
    drift_allowed: bool


_AGAIN = "write it again with `convattn export`"
ANY_FORMAT: Document[dict[str, Any]] = Document(
    dict[str, Any], "parity report", "parity_report", _AGAIN
)
DOCUMENT = Document(_Content, "parity report", "parity_report", _AGAIN)
_ROW = Document(ParityRow, "row of a parity report", "parity_report", _AGAIN)


@dataclass(frozen=True)
class ParityReport:
    """All rows of a comparison. True if every row passed and there is at least one.

    Args:
        name, version, weights_sha256: of the model.
        rows: measurements.
        attestation: per file: providers of the session, placement of its nodes, device, versions.
        versions: of the packages that took part.
        drift_allowed: a failing verdict did not stop the export; the caller asked for that.
    """

    name: str
    version: str
    weights_sha256: str
    rows: tuple[ParityRow, ...]
    attestation: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    drift_allowed: bool = False

    def __bool__(self) -> bool:
        return bool(self.rows) and all(row.passed for row in self.rows)

    def __repr__(self) -> str:
        """One line, as a notebook shows it."""
        verdict = "passes" if self else "fails"
        files = ", ".join(dict.fromkeys(row.file for row in self.rows))
        return f"<ParityReport of {self.name}: {verdict}, {len(self.rows)} rows of {files}>"

    @property
    def failures(self) -> tuple[ParityRow, ...]:
        """Rows that did not pass."""
        return tuple(row for row in self.rows if not row.passed)

    def summary(self) -> list[dict[str, Any]]:
        """One entry per file, output, provider and precision: the worst of its rows."""
        found: dict[tuple[Any, ...], list[ParityRow]] = {}
        for row in self.rows:
            key = (row.file, row.output, row.provider, row.precision, row.tf32)
            found.setdefault(key, []).append(row)
        return [_summarise(rows) for rows in found.values()]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the content of parity.json."""
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "version": self.version,
            "weights_sha256": self.weights_sha256,
            "passed": bool(self),
            "drift_allowed": self.drift_allowed,
            "reference": "the model in float64, eager, CPU",
            "summary": self.summary(),
            "rows": [
                {**asdict(row), "size": list(row.size), "ratio": row.ratio} for row in self.rows
            ],
            "attestation": self.attestation,
            "versions": self.versions,
        }

    def to_json(self) -> str:
        """`to_dict` as text; infinities and NaN, which JSON lacks, become null."""
        return to_json(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ParityReport:
        """The report of a parity.json. Raises: ConfigError for another format."""
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise ConfigError(
                f"this parity report has format {shown(version)}, expected {FORMAT_VERSION}; write "
                f"it again with `convattn export` or `convattn verify DIR --out DIR`",
                code="parity_version",
            )
        found = DOCUMENT.check(content, "this")
        return cls(
            found["name"],
            found["version"],
            found["weights_sha256"],
            tuple(_row(entry) for entry in found["rows"]),
            found["attestation"],
            found["versions"],
            found["drift_allowed"],
        )


def read_report(path: str | Path) -> ParityReport:
    """The report in a parity.json. Raises: ConfigError, NotFoundError, ResourceError."""
    return ParityReport.from_dict(read_document(ANY_FORMAT, path))


_INFINITE = ("limit", "max_abs_error", "mean_abs_error", "relative_l2", "kl")


def _row(entry: dict[str, Any]) -> ParityRow:
    """A stored row; null stands for what JSON cannot say: infinite errors, undefined shares."""
    values = {key: value for key, value in entry.items() if key != "ratio"}
    for key, value in values.items():
        if value is None:
            values[key] = math.inf if key in _INFINITE else math.nan
    return _ROW.check(values, "a row")


def _summarise(everything: list[ParityRow]) -> dict[str, Any]:
    """The worst of the rows that compare with the reference, and how much neighbours matter."""
    rows = [row for row in everything if row.inputs != NEIGHBOURS]
    beside = [row.max_abs_error for row in everything if row.inputs == NEIGHBOURS]
    first = rows[0]
    worst = _worst((r.max_abs_error for r in rows), max)
    eager = _worst((r.eager_max_abs_error for r in rows), max)
    return {
        "file": first.file,
        "output": first.output,
        "provider": first.provider,
        "precision": first.precision,
        "tf32": first.tf32,
        "levels": sorted({r.level for r in rows} - {""}),
        "max_abs_error": worst,
        "eager_max_abs_error": eager,
        "ratio": worst / eager if eager else (0.0 if worst == 0 else math.inf),
        "relative_l2": _worst((r.relative_l2 for r in rows), max),
        "cosine": _worst((r.cosine for r in rows), min),
        "kl": _worst((r.kl for r in rows), max),
        "top1_agreement": _worst((r.top1_agreement for r in rows), min),
        "top5_agreement": _worst((r.top5_agreement for r in rows), min),
        "batches": sorted({r.batch for r in rows}),
        "sizes": [list(size) for size in sorted({r.size for r in rows})],
        "neighbours_max_abs_error": _worst(beside, max) if beside else None,
        "passed": all(r.passed for r in everything),
    }


def _worst(values: Iterable[float], choose: Callable[[Iterable[float]], float]) -> float:
    """The extreme value; NaN only if one of them is, as `max` alone may hide it."""
    known = list(values)
    return math.nan if any(math.isnan(value) for value in known) else choose(known)


def require_parity(report: ParityReport, allow_drift: bool = False) -> None:
    """Raises: ParityError that names the worst row, or says that nothing was compared; the report
    is its attribute `report`.
    """
    if report or (allow_drift and report.rows):
        return
    if not report.rows:
        why = {f: said["not_run"] for f, said in report.attestation.items() if "not_run" in said}
        reasons = "; ".join(f"{file}: {reason}" for file, reason in why.items())
        nothing = ParityError(
            f"nothing was compared with the reference: {reasons or 'no file ran'}"
        )
        nothing.report = report  # type: ignore[attr-defined]
        raise nothing
    worst = max(report.failures, key=lambda row: row.max_abs_error / (row.limit or 1e-30))
    raise _failed(
        f"{worst.file} differs from the float64 reference by {worst.max_abs_error:.2e} on "
        f"{worst.inputs} "
        f"inputs at batch {worst.batch}; at most {worst.limit:.2e} passes (eager float32: "
        f"{worst.eager_max_abs_error:.2e}, equal top-1: {worst.top1_agreement:.1%}). Nothing was "
        f"written",
        report,
    )


def _failed(message: str, report: ParityReport) -> ParityError:
    error = ParityError(message)
    error.report = report  # type: ignore[attr-defined]
    return error
