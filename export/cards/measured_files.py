"""What measured files hold, as far as cards and pictures read them."""

from __future__ import annotations

from typing import Any, TypedDict

from zoo.catalog.checked_json import Document

Interval = tuple[float, float]


class _Where(TypedDict, total=False):
    weights_sha256: str
    parent_commit: str | None
    browser: str
    device: str


class _How(_Where, total=False):
    versions: dict[str, str]
    machine: Machine


class How(_How, total=False):
    """How something was measured: what every measured file may state."""

    command: str


class Machine(TypedDict, total=False):
    """Of which machine."""

    cpu: str
    gpu: str | None
    cores: int


class _Number(TypedDict):
    value: float | None
    interval95: Interval | None


class _Share(TypedDict):
    total: int
    acc1_percent: float
    interval95_percent: Interval


class _Reliability(TypedDict):
    edges: list[float]
    counts: list[int]
    accuracy: list[float]
    confidence: list[float]


class _Details(TypedDict, total=False):
    definition: str
    metrics: dict[str, _Number]
    reliability: _Reliability
    confusion_matrix: list[list[int]] | None
    data_sha256: str | None


class _Result(_Share, _Details):
    pass


class _Evaluation(_Details, total=False):
    resamples: int


class _Optional(How, total=False):
    test: _Share | None
    evaluation: _Evaluation | None
    finetune_from: str | None
    images: dict[str, int]
    classes: dict[str, int]
    skipped: list[str]
    data_sha256: str | None


class _Run(_Optional):
    data: str
    recipe: dict[str, Any]
    best_epoch: int
    seconds: float
    training_images: int
    validation: _Share


class _Accuracy(_How):
    command: str
    results: dict[str, _Result]


class _Mean(TypedDict):
    mean: float
    interval95: Interval


class _SeedRun(TypedDict):
    seed: int
    validation_acc1_percent: float
    test_acc1_percent: float


class _Seeds(TypedDict, total=False):
    runs: list[_SeedRun]
    released: int
    validation_acc1_percent: _Mean
    test_acc1_percent: _Mean


class _Counted(How, total=False):
    training_images: int
    seeds: _Seeds


class _Training(_Counted):
    recipe: dict[str, Any]
    best_epoch: int
    seconds: float


class _Ratio(TypedDict):
    value: float
    interval95: Interval


class _Candidate(TypedDict):
    by: str
    of_eager: _Ratio


class _Speed(_Where):
    command: str
    versions: dict[str, str]
    machine: Machine
    shape: list[int]
    threads: int
    provider: str
    candidates: list[_Candidate]


ACCURACY = Document(_Accuracy, "accuracy that `convattn evaluate --out` wrote", "measured")
TRAINING = Document(_Training, "training.json that `benchmarks.seeds` wrote", "measured")
SPEED = Document(_Speed, "result of `convattn bench model --out`", "measured")
CONDITIONS = Document(How, "measured file", "measured")
RUN = Document(_Run, "metrics.json that `convattn train` wrote", "metrics", "train again")
