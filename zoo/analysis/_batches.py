"""Data for analyses: loaders of several forms, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import AnalysisError
from ..preprocessing import preprocess
from ..records import InputSpec


@dataclass(frozen=True)
class ImageBatches:
    """Images of a data set as a model takes them, batch by batch, as often as one iterates.

    Args:
        dataset: a sequence of (uint8 array (H, W, 3), class number).
        spec: preprocessing.
        batch_size: images per batch; the last one may be smaller.
    Yields: float32 (B, C, H, W) and int64 (B,).
    """

    dataset: Sequence[tuple[Any, int]]
    spec: InputSpec
    batch_size: int = 64

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.dataset), self.batch_size):
            stop = min(start + self.batch_size, len(self.dataset))
            pairs = [self.dataset[i] for i in range(start, stop)]
            images = np.stack([preprocess(image, self.spec) for image, _ in pairs])
            yield torch.from_numpy(images), torch.tensor([int(target) for _, target in pairs])


def read_batches(
    loader: Iterable[Any], labelled: bool = False
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Images and targets of a loader that yields pairs, or images alone.

    Args: labelled: refuse batches without targets.
    Raises: AnalysisError for an empty loader, or another form.
    """
    empty = True
    for batch in loader:
        pair = (batch, None) if isinstance(batch, Tensor) else tuple(batch[:2])
        images, targets = pair if len(pair) == 2 else (pair[0], None)
        if not isinstance(images, Tensor) or images.ndim != 4:
            raise AnalysisError(
                "a loader yields images (B, C, H, W), or pairs of images and targets; got "
                f"{getattr(images, 'shape', type(images).__name__)}"
            )
        if labelled and targets is None:
            raise AnalysisError("this analysis needs targets: let the loader yield (images, them)")
        if len(images):
            empty = False
            yield images, targets
    if empty:
        raise AnalysisError(
            "the loader yields no images; if it is a generator it may be used up: pass a list or a "
            "DataLoader",
            code="empty_loader",
        )


def check_classes(targets: Tensor) -> None:
    """Raise AnalysisError if all targets are of one class: accuracies would say nothing."""
    if len(targets) and bool((targets == targets[0]).all()):
        raise AnalysisError(
            f"all {len(targets)} images are of class {int(targets[0])}; an accuracy over one class "
            "says nothing about a classifier: use images of at least two",
            code="one_class",
        )
