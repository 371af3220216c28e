"""An ensemble of classifiers (how-do-vits-work `models/ensemble.py`)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


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
