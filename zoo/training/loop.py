"""The training loop: epochs, validation, the best weights, and a state to continue from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..catalog.weights_records import InputSpec
from ..errors import DivergedError, NotFoundError
from ..evaluation.evaluate import Accuracy
from . import checkpoint
from .batches import Examination, Images, Source, open_source
from .job import EpochResult, TrainingResult
from .learner import Learner, open_accelerator
from .machine import Machine
from .plan import Plan
from .recipe import Recipe

CHECK_EVERY = 50  # steps between looks at the loss: each waits for the GPU
Parts = Callable[[str], Images | None]


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who watches a run.

    Args:
        on_start: called with the steps done already and in all.
        on_step, on_epoch: called after each; `on_epoch` also gets the network that is evaluated.
    """

    on_start: Callable[[int, int], None] = lambda done, total: None
    on_step: Callable[[], None] = lambda: None
    on_epoch: Callable[[EpochResult, nn.Module], None] = lambda result, model: None


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """Where a run keeps its state, and who watches it.

    Args:
        directory: for the checkpoint after every epoch; None keeps none.
        job: JSON values that a continued run must share; stored with the checkpoint.
        resume: continue from the checkpoint; without one, start.
    """

    directory: Path | None = None
    job: dict[str, Any] = field(default_factory=dict)
    resume: bool = False
    watch: Watch = field(default_factory=Watch)


@dataclass
class _Progress:
    """What a run knows so far: epochs done, the curve, the best of it with its weights."""

    epoch: int = 0
    curve: list[EpochResult] = field(default_factory=list)
    best: EpochResult | None = None
    state: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, result: EpochResult, average: nn.Module) -> None:
        self.curve.append(result)
        if self.best is None or result.validation.correct >= self.best.validation.correct:
            self.best = result
            self.state = {k: v.detach().cpu().clone() for k, v in average.state_dict().items()}

    def result(self, recipe: Recipe, test: Accuracy | None, images: int) -> TrainingResult:
        assert self.best is not None  # the last epoch is always validated
        return TrainingResult(
            self.state, recipe, self.best, test, tuple(self.curve), self.seconds, images
        )


def train(
    model: nn.Module,
    spec: InputSpec,
    parts: Parts,
    recipe: Recipe,
    machine: Machine | None = None,
    sitting: Sitting | None = None,
    frozen: tuple[nn.Module, ...] = (),
) -> TrainingResult:
    """Train `model` in place on ``parts("train")``, choose by "validation", measure "test" once.

    Args:
        spec: preprocessing; must fit the model.
        parts: part name -> images, or None for a test part that does not exist.
    Returns: the result; on all processes the same. `model` holds the best weights, in eval mode.
    Raises: DivergedError (its `result` holds what was good until then), ResourceError, ConfigError.
    """
    machine, sitting = machine or Machine(), sitting or Sitting()
    accelerator = open_accelerator(recipe, machine)
    workers = machine.workers_for(accelerator.device, accelerator.num_processes)
    with machine.computing(accelerator.device, workers), _forked(accelerator.device):
        return _train(
            model,
            spec,
            parts,
            recipe,
            replace(machine, workers=workers),
            sitting,
            frozen,
            accelerator,
        )


def _train(
    model: nn.Module,
    spec: InputSpec,
    parts: Parts,
    recipe: Recipe,
    machine: Machine,
    sitting: Sitting,
    frozen: tuple[nn.Module, ...],
    accelerator: Any,
) -> TrainingResult:
    images, validation, test = _open(parts)
    workers = machine.workers or 0
    plan = _plan(recipe, len(images), accelerator.num_processes)
    source = open_source(images, spec, recipe, workers)
    examination = Examination(validation, spec, recipe, workers)
    learner = Learner(model, recipe, machine, accelerator, plan.steps, len(images.labels), frozen)
    progress = _restore(learner, sitting) if sitting.resume else _Progress()
    try:
        _epochs(learner, source, plan, examination, progress, sitting)
    except DivergedError as error:
        if progress.best is not None:
            error.result = progress.result(recipe, None, len(images))
            _keep_best(learner, progress)
        raise
    _keep_best(learner, progress)
    score = None
    if test is not None:
        score = Examination(test, spec, recipe, workers).accuracy(model, accelerator)
    model.cpu()
    return progress.result(recipe, score, len(images))


def _open(parts: Parts) -> tuple[Images, Images, Images | None]:
    """Images to train on, to validate on and, if there are any, to test on."""
    images, validation, test = (parts(name) for name in ("train", "validation", "test"))
    if images is None or validation is None:
        missing = "train" if images is None else "validation"
        raise NotFoundError(f"training needs images to train and to validate on; no {missing} part")
    return images, validation, test


def _plan(recipe: Recipe, images: int, processes: int) -> Plan:
    return Plan(
        count=images,
        batch_size=recipe.batch_size,
        repeats=recipe.repeats,
        world=processes,
        seed=recipe.seed,
    )


def _forked(device: torch.device) -> Any:
    """Leave the global generators as they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _epochs(
    learner: Learner,
    source: Source,
    plan: Plan,
    examination: Examination,
    progress: _Progress,
    sitting: Sitting,
) -> None:
    """All epochs that are left. Raises: DivergedError, ResourceError."""
    recipe, accelerator = learner.recipe, learner.accelerator
    started, before = time.perf_counter(), progress.seconds
    last = recipe.total_epochs
    sitting.watch.on_start(progress.epoch * plan.steps, last * plan.steps)
    for epoch in range(progress.epoch + 1, last + 1):
        tick = time.perf_counter()
        loss = _epoch(learner, source, plan, epoch, sitting)
        if epoch % recipe.validate_every and epoch != last:
            continue
        found = examination.accuracy(learner.average, accelerator)
        lr = float(learner.raw_optimizer.param_groups[0]["lr"])
        result = EpochResult(epoch, loss, found, time.perf_counter() - tick, lr)
        progress.add(result, learner.average)
        progress.epoch, progress.seconds = epoch, before + time.perf_counter() - started
        if sitting.directory is not None and accelerator.is_main_process:
            _store(sitting.directory, learner, progress, sitting.job)
        sitting.watch.on_epoch(result, learner.average)


def _epoch(learner: Learner, source: Source, plan: Plan, epoch: int, sitting: Sitting) -> float:
    """Returns: the mean loss over the images of all processes. Raises: DivergedError."""
    accelerator = learner.accelerator
    learner.train_mode()
    total = torch.zeros((), device=accelerator.device)
    first = (epoch - 1) * plan.steps
    batches = source.batches(
        epoch, plan.epoch(epoch), accelerator.process_index, accelerator.num_processes
    )
    for step, (x, y) in enumerate(batches):
        total += learner.step(x, y, first + step) * len(x)
        if step % CHECK_EVERY == 0:
            _check_finite(accelerator, total, epoch, step)
        sitting.watch.on_step()
    learner.end_epoch()
    _check_finite(accelerator, total, epoch, plan.steps - 1)
    return float(accelerator.reduce(total, reduction="sum")) / plan.images


def _check_finite(accelerator: Any, total: Tensor, epoch: int, step: int) -> None:
    """All processes see the same sum, so all stop together."""
    if not torch.isfinite(accelerator.reduce(total.clone(), reduction="sum")):
        raise DivergedError(
            f"the loss is no longer a number in epoch {epoch}, by step {step + 1}; a smaller --lr, "
            "a longer warm-up or --amp no may help"
        )


def _keep_best(learner: Learner, progress: _Progress) -> None:
    """The best weights in the caller's model, without Accelerate's wrappers."""
    learner.accelerator.unwrap_model(learner.net, keep_fp32_wrapper=False)
    learner.model.load_state_dict(progress.state)
    learner.model.eval()


def _store(directory: Path, learner: Learner, progress: _Progress, job: dict[str, Any]) -> None:
    tensors, values = checkpoint.pack_optimizer(learner.raw_optimizer)
    groups = {
        "model": learner.model.state_dict(),
        "average": learner.average.state_dict(),
        "best": progress.state,
        "optimizer": tensors,
    }
    scaler = learner.accelerator.scaler
    facts = {
        "job": job,
        "optimizer": values,
        "scaler": None if scaler is None else scaler.state_dict(),
        "epoch": progress.epoch,
        "curve": [asdict(row) for row in progress.curve],
        "best_epoch": progress.best.epoch if progress.best else None,
        "seconds": progress.seconds,
    }
    checkpoint.write_checkpoint(directory, groups, facts)


def _restore(learner: Learner, sitting: Sitting) -> _Progress:
    directory = sitting.directory
    if directory is None or not (directory / checkpoint.FILE).exists():
        return _Progress()
    groups, facts = checkpoint.read_checkpoint(directory)
    checkpoint.check_same_job(sitting.job, facts["job"], directory)
    learner.model.load_state_dict(groups["model"])
    learner.average.load_state_dict(groups["average"])
    checkpoint.unpack_optimizer(
        learner.raw_optimizer, groups.get("optimizer", {}), facts["optimizer"]
    )
    if facts["scaler"]:
        learner.accelerator.scaler.load_state_dict(facts["scaler"])
    curve = facts["curve"]
    best = next(row for row in curve if row.epoch == facts["best_epoch"])
    return _Progress(facts["epoch"], curve, best, groups["best"], facts["seconds"])
