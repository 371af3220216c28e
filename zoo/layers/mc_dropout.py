"""Monte Carlo dropout: an ensemble of one network's random sub-networks, asked for explicitly.

Gal & Ghahramani 2016, *Dropout as a Bayesian Approximation*, arXiv:1506.02142; placed in the
networks as how-do-vits-work does (`models/*_mcdo_block.py`). Where we differ on purpose: upstream's
dropout silently stays on in eval mode; ours is off there unless `mc_predict` or `mc_sampling` asks
for it.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError


class _Here(threading.local):
    """Whether a layer draws masks in the thread at hand: others may ask the same model meanwhile.
    A copy of the layer begins without.
    """

    def __init__(
        self,
    ) -> None:  # in every thread anew; torch.compile watches no attribute of a class
        self.sampling = False

    def __reduce__(self) -> tuple[type[_Here], tuple[()]]:
        return _Here, ()


class MCDropout(nn.Module):
    """Dropout that is active in training, and in eval only while `mc_sampling` holds, in the thread
    that asked for it.

    Args:
        rate: probability of zeroing an element; survivors are divided by 1 - rate.
    Shape: any -> the same. Raises: ValueError unless 0 <= rate < 1.
    """

    def __init__(self, rate: float = 0.3) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"the dropout rate must be in [0, 1); got {rate}")
        self.rate = rate
        self.here = _Here()  # switched by `mc_sampling`, never by forward

    def forward(self, x: Tensor) -> Tensor:
        active = self.rate > 0.0 and (self.training or self.here.sampling)
        return F.dropout(x, self.rate, training=True) if active else x

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


@dataclass(frozen=True)
class MCPrediction:
    """What `mc_samples` forward passes say.

    Args:
        probabilities: mean of the softmax outputs, (B, num_classes).
        variance: their variance over the passes, (B, num_classes); 0 for a single pass.
        mc_samples: number of passes.
    """

    probabilities: Tensor
    variance: Tensor
    mc_samples: int


@contextlib.contextmanager
def mc_sampling(model: nn.Module) -> Iterator[None]:
    """Within the block, every `MCDropout` of `model` draws masks in eval mode too; in this thread
    alone, so not in the threads that `nn.DataParallel` starts.

    Raises: ConfigError if the model has no MC dropout with a positive rate.
    """
    modules = [m for m in model.modules() if isinstance(m, MCDropout) and m.rate > 0.0]
    if not modules:
        takes = "block" in inspect.signature(type(model)).parameters
        raise ConfigError(
            f"{type(model).__name__} has no MC dropout to sample from; build "
            f"{'it' if takes else 'a model with a `block`, such as resnet_nano,'} with "
            "block='mcdo' and a positive mc_rate"
        )
    before = [module.here.sampling for module in modules]
    try:
        for module in modules:
            module.here.sampling = True
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.here.sampling = value


@torch.no_grad()
def mc_predict(model: nn.Module, x: Tensor, mc_samples: int = 30) -> MCPrediction:
    """Mean and variance of the class probabilities over `mc_samples` passes with dropout on.

    Masks come from torch's global generator: `torch.manual_seed` makes the result reproducible.

    Args:
        model: a classifier in eval mode that contains `MCDropout`.
        x: images (B, in_chans, H, W).
        mc_samples: number of forward passes, at least 1.
    Raises: ConfigError for a model in training mode or without MC dropout, or no passes.
    """
    if mc_samples < 1:
        raise ConfigError(f"mc_samples must be at least 1; got {mc_samples}")
    if any(module.training for module in model.modules()):
        raise ConfigError("mc_predict would update BatchNorm statistics; call model.eval() first")
    with mc_sampling(model):
        mean = _probabilities(model, x)
        squares = torch.zeros_like(mean)
        for i in range(1, mc_samples):  # Welford: stable where the variance is small
            probabilities = _probabilities(model, x)
            delta = probabilities - mean
            mean = mean + delta / (i + 1)
            squares = squares + delta * (probabilities - mean)
    return MCPrediction(mean, squares / mc_samples, mc_samples)


def _probabilities(model: nn.Module, x: Tensor) -> Tensor:
    logits = model(x)
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)


class Ensemble(nn.Module):
    """The log of the **sum** of the members' probabilities, upstream's choice.

    Subtract log(number of members) for log-probabilities; a softmax of the output averages.

    Args: models: classifiers of the same number of classes.
    Shape: whatever the members take -> (B, num_classes).
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [model(x).log_softmax(-1) for model in self.models]
        return torch.stack(outputs).logsumexp(0)
