"""What is to be trained: the facts that a run and its continuation must share. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .recipes import RECIPES, Recipe


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training run.

    Args:
        model: a registered name, or ``timm:NAME``; it takes the classes of the data.
        data: what `zoo.datasets.open_dataset` takes.
        recipe: how.
        fraction: of the training images of every class (`keep_fraction`); with it, epochs become
            1 / fraction times as many, so that the number of images seen stays the same.
        finetune_from: a model reference with weights of the same architecture; "" starts anew.
        freeze: parts that are not trained (`zoo.training.starting.freeze`).
        img_size: side of the input in pixels; None: the model's own.
        config: further constructor keywords.
        on_unreadable: "fail" or "skip".
    """

    model: str
    data: str
    recipe: Recipe = RECIPES["digits"]
    fraction: float = 1.0
    finetune_from: str = ""
    freeze: tuple[str, ...] = ()
    img_size: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    on_unreadable: str = "fail"

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
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content
