"""A model seen through a function, so that an exporter can capture other outputs than its own."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Seen(nn.Module):
    """forward(x) = look(model, x). `look` must not be bound to the model: copies are exported."""

    def __init__(self, model: nn.Module, look: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.model = model
        self.look = look
        self.feature_info = getattr(model, "feature_info", None)

    def forward(self, x: Tensor) -> Any:
        return self.look(self.model, x)
