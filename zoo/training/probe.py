"""The quick first try: a linear classifier or nearest neighbours on frozen features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..catalog.weights_records import InputSpec
from ..errors import ConfigError, MissingDependencyError, NotFoundError
from ..evaluation.evaluate import Accuracy
from ..factory.create import create_model
from ..files.json_text import to_json
from ..files.local import make_directory, write_text
from ..files.provenance import provenance
from .batches import Images, Preprocessed
from .job import Job
from .plan import Array
from .run import open_parts
from .start import refuse_in_data, tag_of

FILE = "probe.json"
BATCH = 64
# What is chosen by validation accuracy; the first of equals wins.
STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # inverse L2 penalty of the linear classifier
NEIGHBOURS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Probe:
    """How well frozen features tell the classes apart.

    Args:
        kind: "linear" or "knn".
        chosen: the setting with the best validation accuracy.
        features: width.
    """

    model: str
    data: str
    kind: str
    chosen: dict[str, float]
    features: int
    training_images: int
    validation: Accuracy
    test: Accuracy | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "model": self.model,
            "data": self.data,
            "probe": self.kind,
            "chosen": self.chosen,
            "features": self.features,
            "training_images": self.training_images,
            "validation": self.validation.to_dict(),
            "test": None if self.test is None else self.test.to_dict(),
        }

    def summary(self) -> str:
        """One line."""
        text = (
            f"{self.kind} probe on {self.features} frozen features of {self.model}: validation "
            f"{self.validation.percent:.1f} %"
        )
        if self.test is not None:
            low, high = self.test.interval_percent
            text += f", test {self.test.percent:.1f} % ({low:.1f} to {high:.1f} at 95 %)"
        return text


def probe(job: Job, kind: str, out: str | Path) -> Probe:
    """Classify the features of `job.finetune_from`, or of the model's own weights.

    Writes probe.json into `out`.

    Raises: ConfigError, NoWeightsError, MissingDependencyError.
    """
    if kind not in ("linear", "knn"):
        raise ConfigError(f"a probe is linear or knn; got {kind!r}")
    refuse_in_data(out, job.data)
    reference = job.finetune_from or job.model
    size = {} if job.img_size is None else {"img_size": job.img_size}
    model = create_model(reference, pretrained=True, num_classes=0, **size).eval()
    spec = model.pretrained_cfg.input
    parts = open_parts(job)
    features: dict[str, tuple[Array, Array]] = {}
    for name in ("train", "validation", "test"):
        images = parts(name)
        if images is not None:
            features[name] = (_features(model, images, spec), images.targets)
    if "validation" not in features:
        raise NotFoundError(
            f"a probe is chosen on validation images and {job.data!r} has none; add them, or "
            "choose other --data"
        )
    setting, classifier, validation = _best(kind, features)
    test = _accuracy(classifier, *features["test"]) if "test" in features else None
    found = Probe(
        model=model.pretrained_cfg.name,
        data=tag_of(job.data),
        kind=kind,
        chosen=setting,
        features=features["train"][0].shape[1],
        training_images=len(features["train"][1]),
        validation=validation,
        test=test,
    )
    content = {**found.to_dict(), **provenance()}
    write_text(make_directory(out) / FILE, to_json(content, indent=2) + "\n")
    return found


def _features(model: nn.Module, images: Images, spec: InputSpec) -> Array:
    with torch.inference_mode():
        rows = [model(x).numpy() for x in _batches(images, spec)]
    return np.concatenate(rows)


def _batches(images: Images, spec: InputSpec) -> Iterator[torch.Tensor]:
    ready = Preprocessed(images, spec)
    for start in range(0, len(images), BATCH):
        chosen = range(start, min(start + BATCH, len(images)))
        yield torch.stack([ready[i][0] for i in chosen])


def _best(
    kind: str, features: dict[str, tuple[Array, Array]]
) -> tuple[dict[str, float], Any, Accuracy]:
    best: tuple[dict[str, float], Any, Accuracy] | None = None
    count = len(features["train"][1])
    for setting, classifier in _candidates(kind, count):
        classifier.fit(*features["train"])
        found = _accuracy(classifier, *features["validation"])
        if best is None or found.correct > best[2].correct:
            best = setting, classifier, found
    assert best is not None  # one neighbour is always possible
    return best


def _candidates(kind: str, count: int) -> Iterator[tuple[dict[str, float], Any]]:
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise MissingDependencyError(
            "probes need scikit-learn: pip install 'convattn-zoo[train]'"
        ) from None
    if kind == "linear":
        for strength in STRENGTHS:
            linear = LogisticRegression(C=strength, max_iter=5000)
            yield {"inverse_penalty": strength}, make_pipeline(StandardScaler(), linear)
        return
    for neighbours in NEIGHBOURS:
        if neighbours <= count:
            nearest = KNeighborsClassifier(neighbours, weights="distance", metric="cosine")
            yield {"neighbours": neighbours}, nearest


def _accuracy(classifier: Any, features: Array, targets: Array) -> Accuracy:
    return Accuracy(int((classifier.predict(features) == targets).sum()), len(targets))
