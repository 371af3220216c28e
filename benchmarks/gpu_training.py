"""Steps of training on ready tensors: images per second, and that mixed precision learns alike."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import torch

import zoo
from zoo.training.learner import Learner, open_accelerator
from zoo.training.machine import Machine
from zoo.training.recipe import scaled
from zoo.training.recipes import RECIPES

PRECISIONS = {"cuda": ("no", "bf16", "fp16"), "cpu": ("no", "bf16")}
_CLASSES = 10


def train_steps(name: str, precision: str, device: str, batch: int, updates: int) -> dict[str, Any]:
    """One model on noise with fixed labels, which it must begin to learn by heart."""
    recipe = scaled(RECIPES["digits"], batch_size=batch, epochs=1, warmup_epochs=0, amp=precision)
    machine = Machine(cpu=device == "cpu", threads=1)
    torch.manual_seed(0)
    model = zoo.create_model(name, num_classes=_CLASSES)
    accelerator = open_accelerator(recipe, machine)
    learner = Learner(model, recipe, machine, accelerator, updates, _CLASSES)
    learner.train_mode()
    generator = torch.Generator().manual_seed(0)
    side = zoo.get_record(name).input.size
    x = torch.randn(batch, 3, *side, generator=generator)
    y = torch.arange(batch) % _CLASSES
    losses, seconds = [], []
    for update in range(updates):
        tick = time.perf_counter()
        losses.append(float(learner.step(x, y, update)))  # waits for the device
        seconds.append(time.perf_counter() - tick)
    first = math.log(_CLASSES)
    steady = statistics.median(seconds[updates // 2 :])
    passed = all(map(math.isfinite, losses)) and min(losses[updates // 2 :]) < losses[0]
    return {
        "model": name,
        "precision": precision,
        "batch": batch,
        "losses": losses,
        "first_loss_of_guessing": first,
        "images_per_s": batch / steady,
        "passed": passed,
    }
