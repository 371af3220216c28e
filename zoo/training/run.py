"""Train a model and write a run directory, which every verb accepts as a model reference."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from ..catalog.arguments import check_flags
from ..catalog.checked_json import Document
from ..data.digits import PARTS
from ..data.folders import folder_digest
from ..data.opening import available_parts, open_dataset, parse_spec
from ..errors import DatasetError, DivergedError, ZooError
from ..factory.config_json import build_config
from ..files import card_text
from ..files.json_text import to_json
from ..files.listed import read_document
from ..files.local import make_directory, sha256_bytes, write_bytes, write_text
from ..files.locks import sole_writer
from ..files.manifest import FILE as MANIFEST
from ..files.manifest import make_manifest
from ..files.provenance import provenance
from ..files.staging import require_free, staged_directory
from ..weights.safetensors_file import weights_bytes
from . import checkpoint
from .baseline import Baseline
from .job import Job, TrainingResult
from .learner import is_main_process
from .loop import Sitting, Watch, train
from .machine import Machine
from .plan import keep_fraction
from .report import evaluation_facts, write_report
from .start import create_start, freeze, refuse_in_data, tag_of

if TYPE_CHECKING:
    from torch import nn

    from ..data.dataset import ImageDataset


METRICS = "metrics.json"


class _Part(TypedDict):
    acc1_percent: float


class _Images(TypedDict, total=False):
    data_sha256: str


class Metrics(_Images):
    """What the zoo itself reads of a metrics.json."""

    model: str
    data: str
    recipe: dict[str, Any]
    training_images: int
    validation: _Part
    test: _Part | None
    seconds: float


DOCUMENT = Document(Metrics, "metrics.json of a run", "metrics", "train again into another --out")
# Files of a run that the manifest lists if they are there.
FILES = ("config.json", "model.safetensors", METRICS)
DIAGNOSTICS = "diagnostics.jsonl"
OPTIONAL = (DIAGNOSTICS, "curves.png", "confusion.png", "README.md")
_LAUNCHERS = ("", "PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_")  # as accelerate knows them
UNFINISHED_DIAGNOSTICS = "unfinished_diagnostics.jsonl"  # while the run goes on


def train_model(
    job: Job,
    out: str | Path,
    *,
    machine: Machine | None = None,
    watch: Watch | None = None,
    resume: bool = False,
    report: bool = True,
    overwrite: bool = False,
    baseline: Baseline | None = None,
) -> TrainingResult:
    """Train and write config.json, model.safetensors, metrics.json and manifest.json.

    Args:
        out: run directory; checked to be writable before training starts. The state after every
            epoch is kept there until the end.
        resume: continue the run that was begun there, or begin it.
        report: also write curves.png, confusion.png and a draft card, README.md.
        overwrite: replace a finished directory; it stays whole until the new run is finished.
        baseline: what the result is compared with; kept in metrics.json.
    Raises: ConfigError, UnknownModelError, ResourceError (code "in_use" while another process
        trains there), DatasetError; DivergedError after the
        best weights until then, if any, were written.
    """
    check_flags(resume=resume, report=report, overwrite=overwrite)
    _check_place(Path(out), resume, overwrite)
    refuse_in_data(out, job.data)
    parts = open_parts(job)
    training = parts("train")
    assert training is not None
    about = describe_data(job.data, parts)
    model = create_start(job, training.labels)
    frozen = freeze(model, job.freeze)
    out = make_directory(out)
    facts = {**job.to_dict(), **about}
    sitting = Sitting(directory=out, job=facts, resume=resume, watch=watch or Watch())
    spec = model.pretrained_cfg.input
    with sole_writer(out) if _is_first() else contextlib.nullcontext():
        if _is_first():  # again: another run may have begun or ended there meanwhile
            _check_place(out, resume, overwrite)
        try:
            result = train(model, spec, parts, job.planned, machine, sitting, frozen)
        except DivergedError as error:
            if not isinstance(error.result, TrainingResult):
                raise
            if is_main_process():
                write_run(model, job, error.result, out)
            raise _with_good_state(error, error.result, out) from None
        if is_main_process():
            shown = (parts("test") or parts("validation")) if report else None
            write_run(model, job, result, out, shown, finished=True, baseline=baseline, about=about)
        return result


def _is_first() -> bool:
    """Whether no other process trains this run, or all of them count from this one; known before
    they meet.
    """
    from accelerate.utils import get_int_from_env

    return get_int_from_env([f"{who}RANK" for who in _LAUNCHERS], 0) == 0


def open_parts(job: Job) -> Callable[[str], ImageDataset | None]:
    """The job's data by part: the fraction of the training images, None for a missing test part.

    Raises: see `zoo.open_dataset`.
    """
    found: dict[str, ImageDataset | None] = {}

    def part(name: str) -> ImageDataset | None:
        if name not in found:
            if name == "test" and name not in available_parts(job.data):
                return None
            images = open_dataset(job.data, name, on_unreadable=job.on_unreadable)
            if name == "train":
                _require_every_class(images)
            if name == "train" and job.fraction != 1:
                images = images.subset(keep_fraction(images.targets, job.fraction))
            found[name] = images
        return found[name]

    return part


def _require_every_class(images: ImageDataset) -> None:
    """Raises: DatasetError for a class whose images were all left out: it would never be learnt."""
    counts = np.bincount(images.targets, minlength=len(images.labels))
    for number in np.flatnonzero(counts == 0):
        raise DatasetError(
            f"no image of the class {images.labels[number]!r} of {images.name} can be read; mend "
            "them, or remove the class",
            code="empty_class",
        )


def describe_data(data: str, parts: Callable[[str], ImageDataset | None]) -> dict[str, Any]:
    """What metrics.json keeps of the images: how many of which class and part, what was left out
    because it cannot be read, and which images they are (`folder_digest`).
    """
    found = {name: images for name in PARTS if (images := parts(name)) is not None}
    training = found["train"]
    counts = [int(n) for n in np.bincount(training.targets, minlength=len(training.labels))]
    folder = parse_spec(data)[0] == "folder"
    return {
        "images": {name: len(images) for name, images in found.items()},
        "classes": dict(zip(training.labels, counts, strict=True)),
        "skipped": sorted({path for images in found.values() for path in images.skipped}),
        "data_sha256": folder_digest(data) if folder else "",
    }


def is_finished(out: Path, job: Job) -> bool:
    """Whether `out` holds this very run, complete. Raises: ConfigError if it holds another one."""
    if (out / checkpoint.FILE).exists() or not (out / MANIFEST).is_file():
        return False
    metrics = read_document(DOCUMENT, out / METRICS)
    recipe = json.loads(json.dumps(asdict(job.planned)))
    current = {"recipe": recipe, **json.loads(to_json(_facts(job)))}
    if parse_spec(job.data)[0] == "folder":  # which may have changed; what has a name has not
        current |= describe_data(job.data, open_parts(job))
    stored = {key: metrics.get(key) for key in current}
    checkpoint.check_same_job(current, stored, out)
    return True


def trained_on(reference: str) -> str:
    """Digest of the folder that a run directory was trained on (`folder_digest`); "" if it is
    another kind of reference, or the data had a name or parts of their own.
    """
    path = Path(reference) / METRICS
    if not path.is_file():
        return ""
    return read_document(DOCUMENT, path).get("data_sha256", "")


def _check_place(out: Path, resume: bool, overwrite: bool) -> None:
    """Refuse to lose finished work, or another run's state."""
    unfinished = (out / checkpoint.FILE).exists()
    if not unfinished and any((out / name).exists() for name in (MANIFEST, *FILES)):
        require_free(out, overwrite)
    if unfinished and not resume:
        raise ZooError(
            f"{out} holds an unfinished run: continue it with --resume, or choose another --out",
            code="unfinished_run",
        )


def _with_good_state(error: DivergedError, result: TrainingResult, out: Path) -> DivergedError:
    changed = DivergedError(
        f"{error}. {out} holds the weights of epoch {result.best.epoch}, the best until then "
        f"(validation {result.best.validation.percent:.1f} %)"
    )
    changed.result = result
    return changed


def write_run(
    model: nn.Module,
    job: Job,
    result: TrainingResult,
    out: Path,
    shown: ImageDataset | None = None,
    *,
    finished: bool = False,
    baseline: Baseline | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write the run directory of a trained model, in one step.

    Args:
        shown: images for the report; None writes none.
        finished: the state to continue from is not needed any more.
        baseline: as in `train_model`.
        about: of the data, for metrics.json and the card.
    Raises: ResourceError; WeightsFileError if a weight is not finite.
    """
    weights = weights_bytes(model)
    model.pretrained_cfg = replace(
        model.pretrained_cfg, tag=tag_of(job.data), sha256=sha256_bytes(weights)
    )
    metrics = {**_facts(job), **result.to_dict(), **provenance(job.recipe.seed)}
    metrics |= about or {}
    metrics["baseline"] = None if baseline is None else baseline.to_dict()
    metrics["warnings"] = list(result.warnings(baseline))
    config = to_json(build_config(model), indent=2, ensure_ascii=False)
    drop = (checkpoint.FILE, UNFINISHED_DIAGNOSTICS) if finished else ()
    with staged_directory(out, replace=True, drop=drop) as folder:
        if shown is not None:
            skipped = (about or {}).get("skipped", ())
            found = write_report(model, job, result, shown, folder, skipped)
            metrics["evaluation"] = evaluation_facts(found)
            if not (out / card_text.FILE).is_file():  # what its owner wrote stays
                images = sum((about or {}).get("images", {}).values())
                write_text(folder / card_text.FILE, card_text.draft(images))
        if (out / UNFINISHED_DIAGNOSTICS).is_file():
            shutil.copyfile(out / UNFINISHED_DIAGNOSTICS, folder / DIAGNOSTICS)
        write_bytes(folder / "model.safetensors", weights)
        write_text(folder / "config.json", config + "\n")
        write_text(folder / METRICS, to_json(metrics, indent=2) + "\n")
        write_manifest(model, folder)


def _facts(job: Job) -> dict[str, Any]:
    """What the metrics say of the job; the place of the data stays out of it."""
    content = {key: value for key, value in asdict(job).items() if key != "recipe"}
    content["config"] = dict(job.config)
    content["data"] = tag_of(job.data)
    start = job.finetune_from
    content["finetune_from"] = Path(start).name if Path(start).is_dir() else start
    return content


def write_manifest(model: nn.Module, out: Path) -> None:
    """manifest.json of all that a run may hold and `out` has."""
    listed = [name for name in (*FILES, *OPTIONAL) if (out / name).is_file()]
    cfg = model.pretrained_cfg
    manifest = make_manifest(out, listed, cfg.name, cfg.version, cfg.architecture_version)
    write_text(out / MANIFEST, manifest.to_json())
