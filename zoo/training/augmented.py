"""Training images as a recipe changes them, without a training: for what looks at the loss."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..catalog.weights_records import InputSpec
from ..data.dataset import ImageDataset
from .batches import open_source
from .plan import seeded
from .recipe import scaled
from .recipes import default_recipe


def augmented_batches(
    dataset: ImageDataset, spec: InputSpec, data: str, batch_size: int, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """All images augmented as the data's recipe does, with its mixup; fixed by the seed.

    Args: spec: the model's input; data: what `--data` took.
    """
    recipe = scaled(default_recipe(data), seed=seed, batch_size=batch_size)
    source = open_source(dataset, spec, recipe, 0)
    order = np.random.default_rng(seed).permutation(len(dataset))
    pairs = np.stack([order, np.zeros_like(order)], axis=1)
    chunks = [pairs[i : i + batch_size] for i in range(0, len(pairs), batch_size)]
    chunks = [chunk for chunk in chunks if len(chunk) > 1]
    with seeded(seed):
        batches = list(source.batches(1, chunks, 0, 1))
        if not (recipe.mixup or recipe.cutmix):
            return batches
        from timm.data import Mixup

        mix = Mixup(
            recipe.mixup, recipe.cutmix, label_smoothing=0.0, num_classes=len(dataset.labels)
        )
        even = ((x[: len(x) // 2 * 2], y[: len(x) // 2 * 2]) for x, y in batches)
        return [mix(images, targets) for images, targets in even]
