"""One step of training: network, optimiser, schedule, loss and running average, on any number of
processes.

timm's parts (optimisers, schedules, losses, mixup, `ModelEmaV3`) and Hugging Face Accelerate, which
is what `accelerate launch` and `torchrun` need.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, MissingDependencyError
from .machine import Machine, seed_torch
from .plan import derive_seed, seeded
from .recipe import Recipe


def open_accelerator(recipe: Recipe, machine: Machine) -> Any:
    """Accelerate's handle of this process and its fellows.

    Raises: MissingDependencyError; ConfigError for a precision that this device does not have.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError:
        raise MissingDependencyError(
            "training needs accelerate: pip install 'convattn-zoo[train]'"
        ) from None
    AcceleratorState._reset_state()  # a second run of this process may take another precision
    accelerator = Accelerator(mixed_precision=recipe.amp or None, cpu=machine.cpu)
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError("amp 'fp16' needs a GPU; pass --amp no or --amp bf16")
    return accelerator


class Learner:
    """A network in training.

    Args:
        model: trained in place.
        recipe, machine: how.
        steps: of an epoch.
        classes: width of the logits.
        frozen: modules that stay in eval mode; their parameters take no gradient already.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        machine: Machine,
        accelerator: Any,
        steps: int,
        classes: int,
        frozen: tuple[nn.Module, ...] = (),
    ) -> None:
        from timm.utils import ModelEmaV3

        self.recipe, self.machine, self.accelerator = recipe, machine, accelerator
        self.model, self.frozen = model.to(accelerator.device), frozen
        self.ema = ModelEmaV3(self.model, decay=recipe.ema_decay, use_warmup=True)
        self.ema.requires_grad_(False)
        self.raw_optimizer = _optimizer(self.model, recipe)
        self.schedule = _schedule(self.raw_optimizer, recipe, steps)
        self.net, self.optimizer = accelerator.prepare(self.model, self.raw_optimizer)
        self.mixup, self.criterion = _targets(recipe, classes)

    @property
    def average(self) -> nn.Module:
        """The network that is evaluated and kept."""
        return self.ema.module

    def train_mode(self) -> None:
        """Training mode, but for what is frozen."""
        self.net.train()
        for module in self.frozen:
            module.eval()

    def step(self, x: Tensor, y: Tensor, update: int) -> Tensor:
        """One step on this process's share of the images. Returns: its mean loss, detached."""
        rank = self.accelerator.process_index
        device = self.accelerator.device
        x, y = prepare_images(x, device), y.to(device, non_blocking=True)
        seed = derive_seed(self.recipe.seed, 3, update, rank)
        seed_torch(seed, device)
        target: Tensor = y
        if self.mixup is not None:
            with seeded(seed):
                x, target = self.mixup(x, y)
        self.schedule.step_update(update)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(x, target)
        if self.recipe.clip_norm:
            self.accelerator.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        if self.recipe.ema_decay:
            self.ema.update(self.model, update + 1)
        return loss

    def _backward(self, x: Tensor, target: Tensor) -> Tensor:
        size = self.machine.micro_batch or len(x)
        parts = list(zip(x.split(size), target.split(size), strict=True))
        total = torch.zeros((), device=x.device)
        for number, (part, wanted) in enumerate(parts, start=1):
            last = number == len(parts)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.net):
                loss = self.criterion(self.net(part), wanted) * (len(part) / len(x))
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def end_epoch(self) -> None:
        """Without a running average, the network itself is what is evaluated."""
        if not self.recipe.ema_decay:
            self.ema.set(self.model)


def prepare_images(images: Tensor, device: torch.device) -> Tensor:
    """Images on the device; on a CPU with their channels last, which makes convolutions up to twice
    as fast and changes nothing else.
    """
    if device.type == "cpu" and images.ndim == 4:
        return images.to(device, memory_format=torch.channels_last)
    return images.to(device, non_blocking=True)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    from timm.optim import create_optimizer_v2

    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("everything is frozen, so there is nothing to train; freeze fewer parts")
    fused = {"fused": True} if recipe.optimizer == "adamw" and _on_cpu(model) else {}
    # Given a model, timm spares what its no_weight_decay() names, whatever filter_bias_and_bn says.
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found: torch.optim.Optimizer = create_optimizer_v2(
        trained if recipe.decay_all else model,
        opt={"adamw": "adamw", "sgd": "momentum"}[recipe.optimizer],
        lr=recipe.scaled_lr,
        weight_decay=recipe.weight_decay,
        filter_bias_and_bn=True,
        **fused,
    )
    return found


def _on_cpu(model: nn.Module) -> bool:
    return all(parameter.device.type == "cpu" for parameter in model.parameters())


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> Any:
    from timm.scheduler import create_scheduler_v2

    schedule, _ = create_scheduler_v2(
        optimizer,
        sched={"cosine": "cosine", "steps": "multistep"}[recipe.schedule],
        num_epochs=recipe.epochs,
        decay_milestones=list(recipe.milestones),
        decay_rate=recipe.step_factor,
        min_lr=recipe.min_lr,
        warmup_lr=recipe.warmup_lr,
        warmup_epochs=recipe.warmup_epochs,
        warmup_prefix=recipe.warmup_prefix,
        step_on_epochs=False,
        updates_per_epoch=steps,
    )
    return schedule


def _targets(recipe: Recipe, classes: int) -> tuple[Any, nn.Module]:
    from timm.data import Mixup
    from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

    if recipe.mixup or recipe.cutmix:
        mixup = Mixup(
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            label_smoothing=recipe.label_smoothing,
            num_classes=classes,
        )
        return mixup, SoftTargetCrossEntropy()
    if recipe.label_smoothing:
        return None, LabelSmoothingCrossEntropy(recipe.label_smoothing)
    return None, nn.CrossEntropyLoss()


def is_main_process() -> bool:
    """Whether this process writes the files; call it after `open_accelerator`."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)
