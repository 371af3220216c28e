"""Train a model of the zoo on images in memory; deterministic from a seed on one machine."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..evaluation import Accuracy, measure_accuracy
from ..preprocessing import preprocess
from ..records import InputSpec
from .digits import ImageData


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. The defaults are the recipe of the bundled digits weights.

    Args:
        epochs, batch_size, lr, weight_decay: AdamW; one-dimensional parameters and those that
            `no_weight_decay` names are not decayed.
        warmup_epochs: linear warm-up, then a half cosine to zero, per step.
        label_smoothing: of the cross entropy.
        clip_norm: largest norm of the gradient.
        rotate_degrees, shift, scale: mild augmentation, uniform within +-; shift is a share of the
            side.
        ema_decay: of the running average of the weights that is evaluated and kept.
        seed: of initialisation, order and augmentation.
    """

    epochs: int = 90
    batch_size: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup_epochs: int = 5
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    rotate_degrees: float = 10.0
    shift: float = 0.06
    scale: float = 0.1
    ema_decay: float = 0.99
    seed: int = 0


@dataclass(frozen=True)
class EpochResult:
    """One line of the training curve."""

    epoch: int
    loss: float
    validation: Accuracy
    seconds: float


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves: weights of the best epoch by validation accuracy, and how it went.

    `test` is measured once, after the choice, on images that neither training nor choice has seen.
    """

    state: dict[str, Tensor]
    recipe: Recipe
    best: EpochResult
    test: Accuracy
    curve: tuple[EpochResult, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values for metrics.json."""
        return {
            "recipe": asdict(self.recipe),
            "best_epoch": self.best.epoch,
            "validation": self.best.validation.to_dict(),
            "test": self.test.to_dict(),
            "seconds": round(self.seconds, 1),
            "curve": [
                {
                    "epoch": row.epoch,
                    "loss": round(row.loss, 5),
                    "validation_acc1_percent": round(row.validation.percent, 3),
                }
                for row in self.curve
            ],
        }


def to_tensor(data: ImageData, spec: InputSpec) -> Tensor:
    """Preprocess all images of a part. Returns: float32 (n, C, H, W)."""
    return torch.from_numpy(np.stack([preprocess(image, spec) for image in data.images]))


def train(
    model: nn.Module,
    spec: InputSpec,
    parts: Callable[[str], ImageData],
    recipe: Recipe,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
) -> TrainingResult:
    """Train `model` in place on ``parts("train")``, choose by "validation", measure "test" once.

    Args:
        spec: preprocessing; must fit the model.
        parts: part name -> images.
        on_epoch: called after every epoch, e.g. to draw a progress bar.
    """
    started = time.perf_counter()
    images = {part: to_tensor(parts(part), spec) for part in ("train", "validation")}
    targets = {part: parts(part).targets for part in ("train", "validation", "test")}
    generator = torch.Generator().manual_seed(recipe.seed)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    steps = math.ceil(len(images["train"]) / recipe.batch_size)
    optimizer = torch.optim.AdamW(_parameter_groups(model, recipe.weight_decay), lr=recipe.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _cosine(recipe, steps))
    curve: list[EpochResult] = []
    best, state = None, {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        for epoch in range(1, recipe.epochs + 1):
            tick = time.perf_counter()
            loss = _epoch(
                model, average, images["train"], torch.from_numpy(targets["train"]), recipe,
                optimizer, schedule, generator,
            )  # fmt: skip
            validation = _accuracy(average, images["validation"], targets["validation"])
            result = EpochResult(epoch, loss, validation, time.perf_counter() - tick)
            curve.append(result)
            if best is None or validation.correct >= best.validation.correct:
                best = result
                state = {key: value.clone() for key, value in average.state_dict().items()}
            on_epoch(result)
    model.load_state_dict(state)
    model.eval()
    test = _accuracy(model, to_tensor(parts("test"), spec), targets["test"])
    assert best is not None  # epochs >= 1
    seconds = time.perf_counter() - started
    return TrainingResult(state, recipe, best, test, tuple(curve), seconds)


def _epoch(
    model: nn.Module,
    average: nn.Module,
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    generator: torch.Generator,
) -> float:
    model.train()
    total = 0.0
    order = torch.randperm(len(images), generator=generator)
    for chosen in order.split(recipe.batch_size):
        x = augment(images[chosen], recipe, generator)
        loss = F.cross_entropy(model(x), targets[chosen], label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        schedule.step()
        _update_average(average, model, min(recipe.ema_decay, _warm(schedule.last_epoch)))
        total += float(loss.detach()) * len(chosen)
    return total / len(images)


def _warm(step: int) -> float:
    return (1 + step) / (10 + step)


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    for kept, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(value, 1 - decay)
        else:
            kept.copy_(value)


def _accuracy(model: nn.Module, images: Tensor, targets: np.ndarray[Any, Any]) -> Accuracy:
    def logits(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            return model(torch.from_numpy(batch)).numpy()

    return measure_accuracy(logits, images.numpy(), targets)


def _cosine(recipe: Recipe, steps: int) -> Callable[[int], float]:
    warm, total = recipe.warmup_epochs * steps, recipe.epochs * steps

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))

    return factor


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    spared = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    decay, keep = [], []
    for name, parameter in model.named_parameters():
        (keep if parameter.ndim <= 1 or name in spared else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": keep, "weight_decay": 0.0}]


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Random rotation, shift and scale per image, bilinear, edges repeated. (B, C, H, W) -> the
    same.
    """
    count = len(images)

    def uniform(bound: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * bound

    angle = torch.deg2rad(uniform(recipe.rotate_degrees))
    zoom = 1 / (1 + uniform(recipe.scale))
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = (
        torch.stack([cos, -sin, uniform(2 * recipe.shift)], dim=1),
        torch.stack([sin, cos, uniform(2 * recipe.shift)], dim=1),
    )
    theta = torch.stack(rows, dim=1)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def scaled(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with the fields that are not None replaced."""
    return replace(recipe, **{key: value for key, value in changes.items() if value is not None})
