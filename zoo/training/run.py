"""Train a model and write a run directory, which every verb accepts as a model reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..datasets import available_parts, open_dataset
from ..errors import DivergedError, ZooError
from ..files import make_directory, read_regular_file, sha256_bytes, write_bytes, write_text
from ..manifest import FILE as MANIFEST
from ..manifest import make_manifest
from ..measurement import provenance
from ..references import build_config
from ..weights import weights_bytes
from . import checkpointing
from .jobs import Job
from .learner import Machine, is_main_process
from .loop import Sitting, Watch, train
from .plan import keep_fraction
from .report import evaluation_facts, write_report
from .results import TrainingResult
from .starting import create_start, freeze, tag_of

if TYPE_CHECKING:
    from torch import nn

    from ..datasets import ImageDataset

METRICS = "metrics.json"
# Files of a run that the manifest lists if they are there.
FILES = ("config.json", "model.safetensors", METRICS)
OPTIONAL = ("diagnostics.jsonl", "curves.png", "confusion.png", "README.md")


def train_model(
    job: Job,
    out: str | Path,
    *,
    machine: Machine | None = None,
    watch: Watch | None = None,
    resume: bool = False,
    report: bool = True,
) -> TrainingResult:
    """Train and write config.json, model.safetensors, metrics.json and manifest.json.

    Args:
        out: run directory; checked to be writable before training starts. The state after every
            epoch is kept there until the end.
        resume: continue the run that was begun there, or begin it.
        report: also write curves.png, confusion.png and a draft card, README.md.
    Raises: ConfigError, UnknownModelError, ResourceError, DatasetError; DivergedError after the
        best weights until then, if any, were written.
    """
    _check_unfinished(Path(out), resume)
    parts = open_parts(job)
    training = parts("train")
    assert training is not None
    model = create_start(job, training.labels)
    frozen = freeze(model, job.freeze)
    out = make_directory(out)
    sitting = Sitting(directory=out, job=job.to_dict(), resume=resume, watch=watch or Watch())
    spec = model.pretrained_cfg.input
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
        write_run(model, job, result, out, shown)
        (out / checkpointing.FILE).unlink(missing_ok=True)
    return result


def open_parts(job: Job) -> Callable[[str], ImageDataset | None]:
    """The job's data by part: the fraction of the training images, None for a missing test part.

    Raises: see `zoo.datasets.open_dataset`.
    """
    found: dict[str, ImageDataset | None] = {}

    def part(name: str) -> ImageDataset | None:
        if name not in found:
            if name == "test" and name not in available_parts(job.data):
                return None
            images = open_dataset(job.data, name, on_unreadable=job.on_unreadable)
            if name == "train" and job.fraction != 1:
                images = images.subset(keep_fraction(images.targets, job.fraction))
            found[name] = images
        return found[name]

    return part


def is_finished(out: Path, job: Job) -> bool:
    """Whether `out` holds this very run, complete. Raises: ConfigError if it holds another one."""
    if (out / checkpointing.FILE).exists() or not (out / MANIFEST).is_file():
        return False
    metrics = json.loads(read_regular_file(out / METRICS, METRICS))
    stored = {key: metrics.get(key) for key in ("recipe", *_facts(job))}
    recipe = json.loads(json.dumps(asdict(job.planned)))
    current = {"recipe": recipe, **json.loads(json.dumps(_facts(job)))}
    checkpointing.check_same_job(current, stored, out)
    return True


def _check_unfinished(out: Path, resume: bool) -> None:
    if (out / checkpointing.FILE).exists() and not resume:
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
) -> None:
    """Write the run directory of a trained model; the manifest comes last.

    Args:
        shown: images for the report; None writes none.
    Raises: ResourceError; WeightsFileError if a weight is not finite.
    """
    weights = weights_bytes(model)
    model.pretrained_cfg = replace(
        model.pretrained_cfg, tag=tag_of(job.data), sha256=sha256_bytes(weights)
    )
    metrics = {**_facts(job), **result.to_dict(), **provenance(job.recipe.seed)}
    if shown is not None:
        found = write_report(model, job, result, shown, out)
        metrics["evaluation"] = evaluation_facts(found)
    config = json.dumps(build_config(model), indent=2, ensure_ascii=False)
    write_bytes(out / "model.safetensors", weights)
    write_text(out / "config.json", config + "\n")
    write_text(out / METRICS, json.dumps(metrics, indent=2) + "\n")
    write_manifest(model, out)


def _facts(job: Job) -> dict[str, Any]:
    """What the metrics say of the job; the place of the data stays out of it."""
    content = {key: value for key, value in asdict(job).items() if key != "recipe"}
    content["config"] = dict(job.config)
    content["data"] = job.data if job.data == "digits" else tag_of(job.data)
    content["finetune_from"] = Path(job.finetune_from).name if job.finetune_from else ""
    return content


def write_manifest(model: nn.Module, out: Path, files: tuple[str, ...] = ()) -> None:
    """manifest.json of `files` and of all that a run may hold and `out` has."""
    listed = {*files, *(name for name in (*FILES, *OPTIONAL) if (out / name).is_file())}
    cfg = model.pretrained_cfg
    manifest = make_manifest(out, listed, cfg.name, cfg.version, cfg.architecture_version)
    write_text(out / MANIFEST, manifest.to_json())
