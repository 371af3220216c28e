"""What training reports: a line for each epoch, and the whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..evaluation import Accuracy
from .recipes import Recipe

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EpochResult:
    """One line of the training curve."""

    epoch: int
    loss: float
    validation: Accuracy
    seconds: float
    lr: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "epoch": self.epoch,
            "loss": round(self.loss, 5),
            "validation_acc1_percent": round(self.validation.percent, 3),
            "lr": self.lr,
        }


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves: weights of the best epoch by validation accuracy, and how it went.

    `test` is measured once, after the choice, on images that neither training nor choice has seen;
    None if the data have no such part. `seconds` counts all sittings of a continued run.
    """

    state: dict[str, Tensor]
    recipe: Recipe
    best: EpochResult
    test: Accuracy | None
    curve: tuple[EpochResult, ...]
    seconds: float
    images: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values for metrics.json."""
        return {
            "recipe": asdict(self.recipe),
            "training_images": self.images,
            "best_epoch": self.best.epoch,
            "validation": self.best.validation.to_dict(),
            "test": None if self.test is None else self.test.to_dict(),
            "seconds": round(self.seconds, 1),
            "curve": [row.to_dict() for row in self.curve],
        }
