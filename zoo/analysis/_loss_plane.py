"""Loss on a plane through weight space: two random directions, normalised filter by filter.

Li, Xu, Taylor, Studer, Goldstein, *Visualizing the Loss Landscape of Neural Nets*,
arXiv:1712.09913; drawn for vision transformers by Park & Kim, arXiv:2202.06709, figure 1a, whose
 how-do-vits-work `ops/loss_landscapes.py` takes another norm than Li et al.: both are here.
The plotted L2 there is the sum of the norms of all tensors, and it dominates the picture; NLL and
the regularisers are kept apart here. Trajectories in polar coordinates are not offered: their
author withdrew them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import AnalysisError, ConfigError
from ..evaluation.checks import check_choice, check_model
from ._answers import check_answers
from ._hooks import device_of, read_batches, unchanged

NORMS = ("how-do-vits-work", "filter")
IGNORED = ("pos_embed", "relative_position")
_EPS = 1e-7

Noise = Callable[[int, str, Sequence[int]], Tensor]
Directions = tuple[dict[str, Tensor], dict[str, Tensor]]
Batches = Sequence[tuple[Tensor, Tensor]]


def random_directions(
    model: nn.Module,
    seed: int = 0,
    norm: str = "how-do-vits-work",
    ignored: Sequence[str] = IGNORED,
    noise: Noise | None = None,
) -> Directions:
    """Two directions in the space of the state dict, as large as the weights and as precise as they
    are, but at least float32; the noise is the same in every precision.

    Args:
        norm: "how-do-vits-work" scales along axis 0 alone, for every input channel and kernel
            position by itself; "filter" scales every filter (Li et al.).
        ignored: regular expressions; entries whose key they match get 0, as do entries with fewer
            than two axes (biases, norms, counters).
        noise: ``noise(direction, key, shape)`` instead of unit normal noise from `seed`; direction
            is 1 or 2.
    Raises: ConfigError for another norm.
    """
    check_model(model, AnalysisError)
    check_choice("norm", norm, NORMS)
    generator = torch.Generator().manual_seed(seed)

    def draw(_: int, __: str, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=generator)

    draw = noise or draw
    state = model.state_dict()
    first, second = (
        {
            key: _direction(
                key, _wide(value.detach()).cpu(), draw(number, key, value.shape), norm, ignored
            )
            for key, value in state.items()
        }
        for number in (1, 2)
    )
    return first, second


def _direction(
    key: str, weight: Tensor, noise: Tensor, norm: str, ignored: Sequence[str]
) -> Tensor:
    if weight.ndim < 2 or any(re.search(pattern, key) for pattern in ignored):
        return torch.zeros_like(weight)
    noise = noise.to(weight.dtype)
    axes = (0,) if norm == "how-do-vits-work" else tuple(range(1, weight.ndim))
    size, length = (torch.linalg.vector_norm(t, 2, axes, keepdim=True) for t in (weight, noise))
    return size / (length + _EPS) * noise


def _wide(x: Tensor) -> Tensor:
    """In its own precision, but at least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def moved(model: nn.Module, directions: Directions, x: float, y: float) -> dict[str, Tensor]:
    """The state dict w + x b1 + y b2; integer entries as they are. The model is not touched."""
    first, second = directions
    found = {}
    for key, value in model.state_dict().items():
        value = value.detach()
        if value.is_floating_point():
            step = x * first[key] + y * second[key]
            value = (_wide(value) + step.to(value.device)).to(value.dtype)
        found[key] = value
    return found


def parameter_norms(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[float, float, float]:
    """(l1, l2, sum of squares) of a state's parameters, without buffers.

    l1 and l2 are sums over tensors of their 1- and 2-norms, as how-do-vits-work has them: this l2
    is not the norm of all parameters together.
    """
    tensors = [state[name].double() for name, _ in model.named_parameters()]
    return (
        sum(float(t.abs().sum()) for t in tensors),
        sum(float(t.norm()) for t in tensors),
        sum(float(t.square().sum()) for t in tensors),
    )


@dataclass(frozen=True)
class LandscapePoint:
    """The loss at w + x b1 + y b2.

    Args:
        nll: mean over images; `nll_error` its standard error.
        acc1_percent: for soft targets against the likeliest class.
        l1, l2: sums of the tensors' norms; half_squares: half the sum of squared parameters, so
            that weight_decay * half_squares is the usual L2 term.
    """

    x: float
    y: float
    nll: float
    nll_error: float
    acc1_percent: float
    l1: float
    l2: float
    half_squares: float


def measure_point(
    model: nn.Module, directions: Directions, x: float, y: float, batches: Batches
) -> LandscapePoint:
    """Evaluate one point of the plane, in eval mode. The model comes back unchanged.

    Raises: AnalysisError; for logits that are not finite at the trained weights alone.
    """
    state = moved(model, directions, x, y)
    device, dtype = device_of(model)
    losses, correct = [], []
    with unchanged(model):
        for images, targets in batches:
            entering = images.to(device, dtype, copy=True)
            found = _wide(functional_call(model, state, (entering,))).cpu()
            logits, right = check_answers(found, targets, soft=True, finite=x == y == 0)
            losses.append(F.cross_entropy(logits, right, reduction="none"))
            labels = right if right.ndim == 1 else right.argmax(-1)
            correct.append(logits.argmax(-1) == labels)
    loss = torch.cat(losses).double()
    spread = float(loss.std()) / len(loss) ** 0.5 if len(loss) > 1 else 0.0
    l1, l2, squares = parameter_norms(model, state)
    accuracy = 100 * float(torch.cat(correct).double().mean())
    return LandscapePoint(x, y, float(loss.mean()), spread, accuracy, l1, l2, squares / 2)


def grid_points(count: int, extent: float) -> list[tuple[float, float]]:
    """(x, y) of a count x count grid on [-extent, extent]^2, y outer, x inner.

    Raises: ConfigError for an even count, which has no point at the trained weights.
    """
    if count < 1 or count % 2 == 0:
        raise ConfigError(
            f"the grid needs an odd number of points per side, so that the trained weights are one "
            f"of them; got {count}"
        )
    middle = count // 2
    axis = [extent * (i - middle) / max(middle, 1) for i in range(count)]
    return [(x, y) for y in axis for x in axis]


def check_batches(batches: Iterable[Any]) -> list[tuple[Tensor, Tensor]]:
    """The batches as a list, on the CPU. Raises: AnalysisError for none, or without targets."""
    pairs = read_batches(batches, labelled=True, soft=True)
    return [(images.cpu(), targets.cpu()) for images, targets in pairs if targets is not None]
