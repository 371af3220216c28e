"""Weights trained again, beside those that were released: the same bytes, or the same accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets import ImageDataset, open_dataset
from ..evaluation import Accuracy, evaluate
from ..factory import create_model
from ..files import sha256_file
from ..prediction import Predictor


@dataclass(frozen=True)
class Reproduction:
    """Released weights and a new training of them, on the same images.

    Args:
        name, data: ``arch.tag@version`` and the images, e.g. "digits/test".
        released, again: accuracy of the released weights and of the new ones.
        same_bytes: whether the two files are equal.
    """

    name: str
    data: str
    released: Accuracy
    again: Accuracy
    same_bytes: bool

    def __bool__(self) -> bool:
        """Whether the new accuracy lies in the 95 % interval of the released weights."""
        low, high = self.released.interval_percent
        return low <= self.again.percent <= high

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "name": self.name,
            "data": self.data,
            "released": self.released.to_dict(),
            "again": self.again.to_dict(),
            "same_bytes": self.same_bytes,
            "reproduced": bool(self),
        }

    def summary(self) -> str:
        """One sentence."""
        low, high = self.released.interval_percent
        where = "inside" if self else "outside"
        files = "the same bytes" if self.same_bytes else "other bytes"
        return (
            f"{self.name}: {files}; {self.data} {self.again.percent:.2f} %, {where} the interval "
            f"of the released weights ({low:.2f} to {high:.2f} % around "
            f"{self.released.percent:.2f} %)"
        )


def compare_with_release(name: str, sha256: str, run: Path, data: str) -> Reproduction:
    """Evaluate released weights and a run on the test part of `data`.

    Args:
        name: a reference with weights, ``arch.tag@version``.
        sha256: of the released file.
        run: directory of the new training.
    Raises: as `zoo.create_model` and `zoo.datasets.open_dataset`.
    """
    images = open_dataset(data, "test")
    return Reproduction(
        name,
        images.name,
        _accuracy(name, images),
        _accuracy(str(run), images),
        sha256_file(run / "model.safetensors") == sha256,
    )


def _accuracy(reference: str, images: ImageDataset) -> Accuracy:
    predictor = Predictor.from_model(create_model(reference, pretrained=True))
    return evaluate(predictor.logits, images, labels=predictor.labels, resamples=0).accuracy
