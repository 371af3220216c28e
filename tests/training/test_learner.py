"""One step by hand: gradient, rate, decay, parts of a step, running average."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import DivergedError
from zoo.training.learner import Learner, open_accelerator
from zoo.training.loop import Sitting, _epoch
from zoo.training.machine import Machine
from zoo.training.recipe import Recipe

SGD: dict[str, Any] = {
    "optimizer": "sgd", "lr": 0.1, "lr_batch": 0, "weight_decay": 0.0, "schedule": "steps",
    "warmup_epochs": 0, "clip_norm": 0.0, "label_smoothing": 0.0, "ema_decay": 0.0, "epochs": 4,
}  # fmt: skip


def learner(model: nn.Module, machine: Machine | None = None, **changes: Any) -> Learner:
    """A learner on the CPU with four steps in an epoch."""
    recipe = Recipe(**{**SGD, **changes})
    machine = machine or Machine(cpu=True)
    return Learner(model, recipe, machine, open_accelerator(recipe, machine), 4, 3)


def batch(count: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 5, generator=generator), torch.arange(count) % 3


def linear() -> nn.Linear:
    model = nn.Linear(5, 3)
    with torch.no_grad():
        model.weight.copy_(torch.linspace(-1, 1, 15).reshape(3, 5))
        model.bias.zero_()
    return model


def gradient(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Of the mean cross-entropy of ``x @ weight.T + bias``: softmax minus one-hot, times x."""
    wrong = (x @ weight.T + bias).softmax(-1) - nn.functional.one_hot(y, 3)
    return wrong.T @ x / len(x), wrong.mean(0)


def test_two_steps_are_two_steps_of_sgd_with_momentum() -> None:
    """By hand; gradients that stay from the first step would show in the second."""
    model, (x, y) = linear(), batch()
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    speed, speed_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    trained = learner(model)
    for update in range(2):
        trained.step(x, y, update)
        g, g_bias = gradient(weight, bias, x, y)
        speed, speed_bias = 0.9 * speed + g, 0.9 * speed_bias + g_bias
        weight, bias = weight - 0.1 * speed, bias - 0.1 * speed_bias
        torch.testing.assert_close(model.weight.detach(), weight)
        torch.testing.assert_close(model.bias.detach(), bias)


@pytest.mark.parametrize("size", [3, 5, 8])
def test_a_step_in_uneven_parts_has_the_gradient_of_the_whole(size: int) -> None:
    """8 images in parts of 3 are 3, 3 and 2: each counts by its images, not as a third."""
    model, (x, y) = linear(), batch()
    g, _ = gradient(model.weight.detach(), model.bias.detach(), x, y)
    expected = model.weight.detach() - 0.1 * g
    loss = learner(model, Machine(cpu=True, micro_batch=size)).step(x, y, 0)
    torch.testing.assert_close(model.weight.detach(), expected)
    whole = nn.functional.cross_entropy(linear()(x), y).detach()
    torch.testing.assert_close(loss, whole)


def test_processes_meet_at_the_last_part_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = learner(linear(), Machine(cpu=True, micro_batch=3))
    seen = []
    backward = trained.accelerator.backward

    @contextlib.contextmanager
    def alone(net: nn.Module) -> Iterator[None]:
        seen.append("alone")
        yield

    monkeypatch.setattr(trained.accelerator, "no_sync", alone)
    monkeypatch.setattr(
        trained.accelerator, "backward", lambda loss: (seen.append("backward"), backward(loss))
    )
    trained.step(*batch(), 0)
    assert seen == ["alone", "backward"] * 2 + ["backward"]


def test_training_mode_is_for_all_but_what_is_frozen() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 3)).eval()
    recipe, machine = Recipe(**SGD), Machine(cpu=True)
    accelerator = open_accelerator(recipe, machine)
    trained = Learner(model, recipe, machine, accelerator, 4, 3, frozen=(model[0],))
    trained.train_mode()
    assert [module.training for module in (model, *model)] == [True, False, True, True]


def test_a_part_without_targets_is_an_error() -> None:
    model, (x, y) = linear(), batch()
    with pytest.raises(ValueError, match="shorter"):
        learner(model, Machine(cpu=True, micro_batch=4)).step(x, y[:4], 0)


def test_adamw_on_the_cpu_is_the_fused_one_and_sgd_has_momentum() -> None:
    assert learner(linear(), optimizer="adamw").raw_optimizer.defaults["fused"] is True
    assert learner(linear()).raw_optimizer.defaults["momentum"] == 0.9


def test_the_rate_of_every_step_is_the_schedules() -> None:
    """Warm-up of one epoch of four steps from 0 to 0.1, inside the cosine over 16 steps."""
    trained = learner(linear(), schedule="cosine", warmup_epochs=1, warmup_lr=0.02, optimizer="sgd")
    rates = []
    for update in range(16):
        trained.step(*batch(), update)
        rates.append(trained.raw_optimizer.param_groups[0]["lr"])
    assert rates[:4] == pytest.approx([0.02, 0.04, 0.06, 0.08])  # step k has the rate of k
    expected = [0.05 * (1 + math.cos(math.pi * k / 16)) for k in range(4, 16)]
    assert rates[4:] == pytest.approx(expected, rel=1e-5)


def decayed(decay_all: bool) -> dict[str, float]:
    """Parameter name -> its weight decay."""

    class Net(nn.Sequential):
        def no_weight_decay(self) -> set[str]:
            return {"0.weight"}

    model = Net(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    names = {id(p): name for name, p in model.named_parameters()}
    groups = learner(
        model, optimizer="adamw", weight_decay=0.05, decay_all=decay_all
    ).raw_optimizer.param_groups
    return {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}


def test_vectors_and_exempt_parameters_do_not_decay() -> None:
    assert decayed(False) == {
        "0.weight": 0.0, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0, "2.weight": 0.05,
        "2.bias": 0.0,
    }  # fmt: skip


def test_everything_decays_where_the_recipe_says_so() -> None:
    found = decayed(True)
    assert {name for name, value in found.items() if value == 0.05} == set(found)


def test_the_running_average_is_that_of_the_formula() -> None:
    """With timm's warm-up the decay at update u = 0, 1, ... is min(d, 1 - (1 + u)^(-2/3))."""
    model, (x, y) = linear(), batch()
    trained = learner(model, ema_decay=0.5)
    average = model.weight.detach().clone()
    for update in range(4):
        trained.step(x, y, update)
        decay = min(0.5, 1 - (1 + update) ** (-2 / 3))
        average = decay * average + (1 - decay) * model.weight.detach()
        torch.testing.assert_close(dict(trained.average.named_parameters())["weight"], average)
    assert not torch.allclose(average, model.weight)


def test_without_a_running_average_the_network_itself_is_shown() -> None:
    model = linear()
    trained = learner(model)
    trained.step(*batch(), 0)
    trained.end_epoch()
    shown = dict(trained.average.named_parameters())["weight"]
    assert torch.equal(shown, model.weight)


def test_the_loss_is_looked_at_every_fifty_steps() -> None:
    """A GPU is waited for then, so that a step too late is what a look less costs."""
    looked = 0

    def reduce(total: Tensor, reduction: str) -> Tensor:
        nonlocal looked
        looked += 1
        return total

    losses = iter([1.0] * 60 + [math.nan] * 60)
    accelerator = SimpleNamespace(device="cpu", process_index=0, num_processes=1, reduce=reduce)
    trained = SimpleNamespace(
        accelerator=accelerator, train_mode=lambda: None,
        step=lambda x, y, update: torch.tensor(next(losses)),
    )  # fmt: skip
    source = SimpleNamespace(batches=lambda *place: [batch()] * 120)
    plan = SimpleNamespace(steps=120, epoch=lambda epoch: None)
    with pytest.raises(DivergedError, match="in epoch 1, by step 101;"):
        _epoch(trained, source, plan, 1, Sitting())  # type: ignore[arg-type]
    assert looked == 3
