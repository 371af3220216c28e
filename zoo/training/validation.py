"""Accuracy during training: a part of the data, spread over the processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..evaluation import Accuracy
from ..preprocessing import preprocess
from ..records import InputSpec
from .plan import take_share
from .recipes import Recipe
from .sources import Images, to_tensor

BATCH = 128


class Examination:
    """One part of the data, ready to be measured again and again.

    Args:
        images: the part.
        spec: preprocessing.
        recipe: "memory" keeps the preprocessed images, "stream" decodes them every time.
        workers: processes that decode.
    """

    def __init__(self, images: Images, spec: InputSpec, recipe: Recipe, workers: int = 0) -> None:
        self.images, self.spec, self.workers = images, spec, workers
        self.tensor = to_tensor(images, spec) if recipe.pipeline == "memory" else None
        self.targets = torch.from_numpy(images.targets)

    def accuracy(self, model: nn.Module, accelerator: Any) -> Accuracy:
        """Top-1 of `model`, in eval mode on Accelerate's device."""
        correct = torch.zeros((), dtype=torch.int64, device=accelerator.device)
        with torch.inference_mode():
            for x, y in self._batches(accelerator.process_index, accelerator.num_processes):
                x, y = x.to(accelerator.device), y.to(accelerator.device)
                correct += (model(x).argmax(-1) == y).sum()
        total = accelerator.reduce(correct.clone(), reduction="sum")
        return Accuracy(int(total), len(self.images))

    def _batches(self, rank: int, world: int) -> Iterator[tuple[Tensor, Tensor]]:
        mine = range(len(self.images))[take_share(len(self.images), rank, world)]
        if self.tensor is not None:
            for start in range(0, len(mine), BATCH):
                chosen = torch.tensor(mine[start : start + BATCH])
                yield self.tensor[chosen], self.targets[chosen]
            return
        from torch.utils.data import DataLoader

        yield from DataLoader(
            Preprocessed(self.images, self.spec),  # type: ignore[arg-type]
            batch_sampler=[list(mine[i : i + BATCH]) for i in range(0, len(mine), BATCH)],
            num_workers=self.workers,
            generator=torch.Generator().manual_seed(0),
        )


class Preprocessed:
    """A data set of (float32 (C, H, W), class number), decoded when asked for."""

    def __init__(self, images: Images, spec: InputSpec) -> None:
        self.images, self.spec = images, spec

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels, target = self.images[index]
        return torch.from_numpy(preprocess(pixels, self.spec)), target
