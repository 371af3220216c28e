"""What is to be trained: the facts that a run and its continuation must share. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..catalog.arguments import as_text
from ..catalog.frozen import settle
from ..errors import ConfigError
from ..evaluation.evaluate import Accuracy
from ..files.json_text import to_json
from .recipe import Recipe
from .recipes import RECIPES

if TYPE_CHECKING:
    from torch import Tensor

    from .baseline import Baseline


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training run.

    Args:
        model: a registered name, or ``timm:NAME``; it takes the classes of the data. A tag in it
            must be that of `finetune_from`.
        data: what `zoo.open_dataset` takes.
        recipe: how; `zoo.training.recipes.get_recipe` has those of the papers.
        fraction: of the training images of every class (`keep_fraction`); with it, epochs become
            1 / fraction times as many, so that the number of images seen stays the same.
        finetune_from: a model reference with weights of the same architecture; "" starts anew.
        freeze: parts that are not trained (`zoo.training.start.freeze`).
        img_size: of the input in pixels, its side or (height, width); None: the model's own.
        config: further constructor keywords.
        on_unreadable: "stop" or "skip".
    Raises: ConfigError for a field of another kind, or an impossible value.
    """

    model: str
    data: str
    recipe: Recipe = RECIPES["digits"]
    fraction: float = 1.0
    finetune_from: str = ""
    freeze: tuple[str, ...] = ()
    img_size: int | tuple[int, int] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    on_unreadable: str = "stop"

    def __post_init__(self) -> None:
        for name in ("model", "data", "finetune_from"):
            object.__setattr__(self, name, as_text(getattr(self, name), name))
        if isinstance(self.recipe, str):
            raise ConfigError(
                "recipe must be a Recipe, not its name: zoo.training.recipes.get_recipe"
                f"({self.recipe!r})"
            )
        settle(self, "job", "config")
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"fraction must be in (0, 1]; got {self.fraction}")
        if self.size is not None and min(self.size) < 1:
            raise ConfigError(f"img_size must be positive; got {self.img_size}")
        if isinstance(self.img_size, tuple) and len(set(self.img_size)) == 1:
            object.__setattr__(self, "img_size", self.img_size[0])  # one way to say a square

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the input, if it is not the model's own."""
        if self.img_size is None or isinstance(self.img_size, int):
            return None if self.img_size is None else (self.img_size, self.img_size)
        return self.img_size

    @property
    def planned(self) -> Recipe:
        """The recipe with 1 / fraction times the epochs, validated as often as before."""
        recipe = self.recipe
        return replace(
            recipe,
            epochs=max(1, round(recipe.epochs / self.fraction)),
            validate_every=max(1, round(recipe.validate_every / self.fraction)),
            warmup_epochs=round(recipe.warmup_epochs / self.fraction),
            milestones=tuple(round(epoch / self.fraction) for epoch in recipe.milestones),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as they come back from JSON."""
        content: dict[str, Any] = json.loads(to_json(asdict(self)))
        return content


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

    def warnings(self, baseline: Baseline | None = None) -> tuple[str, ...]:
        """What speaks against the result: a sentence each."""
        best, last = self.best.validation, self.curve[-1].validation
        found = []
        perfect = best.correct == best.total
        if baseline is not None and not perfect and best.percent <= baseline.validation.percent:
            found.append(
                f"validation {best.percent:.1f} % does not beat the baseline "
                f"({baseline.name}, {baseline.validation.percent:.1f} %); train longer, or try "
                "another --recipe or --lr"
            )
        if len(self.curve) > 1 and self.best == self.curve[0]:
            found.append(
                f"the best epoch is the first one looked at ({self.best.epoch}): training made it "
                "worse; try a smaller --lr"
            )
        if last.percent < best.interval_percent[0]:
            found.append(
                f"validation fell from {best.percent:.1f} % in epoch {self.best.epoch} to "
                f"{last.percent:.1f} % at the end; try fewer --epochs or a smaller --lr"
            )
        return tuple(found)

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
