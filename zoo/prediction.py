"""Images in, labels and probabilities out; the same for an eager model and for an exported file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ConfigError
from .preprocessing import ImageLike, preprocess
from .pretrained import PretrainedCfg
from .records import InputSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, most probable first.

    Args:
        indices: class numbers.
        labels: their names (the number itself where the model has no names).
        probabilities: softmax of the logits, in [0, 1].
    """

    indices: tuple[int, ...]
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.labels[0]

    def to_dict(self) -> dict[str, Any]:
        """JSON values: a list of {index, label, probability}."""
        rows = zip(self.indices, self.labels, self.probabilities, strict=True)
        return {"top": [{"index": i, "label": n, "probability": p} for i, n, p in rows]}


@dataclass(frozen=True)
class Predictor:
    """A function from batches to logits, with the preprocessing and the labels that belong to it.

    Args:
        forward: float32 array (B, C, H, W) -> float array (B, classes).
        input: preprocessing.
        labels: class names, or empty.
        name: for messages.
        weights_sha256: digest of the weights file, or empty where it is not known.
    Example:
        >>> predictor = zoo.Predictor.from_model(zoo.create_model("convit_nano", pretrained=True))
        >>> predictor("examples/digit_7.png").label
        '7'
    """

    forward: Callable[[Array], Array]
    input: InputSpec
    labels: tuple[str, ...] = ()
    name: str = "model"
    weights_sha256: str = ""

    @classmethod
    def from_model(cls, model: nn.Module, mc_samples: int = 0) -> Predictor:
        """Wrap a model made by `zoo.create_model`; it is put into eval mode.

        Args:
            mc_samples: 0, or the number of forward passes with MC dropout on; then the "logits" are
                the logarithm of the mean of their probabilities. `torch.manual_seed` fixes the
                masks.
        Raises: ConfigError if the model does not say what its input is, or has no MC dropout to
            sample from; when it is used, if the model returns feature maps.
        """
        import torch

        cfg = PretrainedCfg.of(model)
        if cfg is None:
            raise ConfigError(
                f"{type(model).__name__} has no pretrained_cfg with an InputSpec; build it with "
                "zoo.create_model, or construct Predictor(forward, input, labels) yourself"
            )
        model.eval()
        reference = next(model.parameters())
        run = _sampled(model, mc_samples) if mc_samples else model

        def forward(batch: Array) -> Array:
            with torch.inference_mode():
                x = torch.from_numpy(batch).to(reference.device, reference.dtype)
                logits = run(x)
            if not isinstance(logits, torch.Tensor):
                raise ConfigError(
                    f"{cfg.name} returns feature maps, not logits: nothing to predict"
                )
            values: Array = logits.float().cpu().numpy()
            return values

        return cls(forward, cfg.input, cfg.labels, cfg.name, cfg.sha256)

    def __call__(self, image: ImageLike, topk: int = 5) -> Prediction:
        """Classify one image. Raises: ImageError, ResourceError."""
        return self.predict([image], topk)[0]

    def predict(
        self, images: Sequence[ImageLike], topk: int = 5, batch_size: int = 32
    ) -> list[Prediction]:
        """Classify images (paths, PIL images, uint8 arrays), one `Prediction` each, in order."""
        return [
            self._top(row, topk) for batch in self._batches(images, batch_size) for row in batch
        ]

    def logits(self, images: Sequence[ImageLike], batch_size: int = 32) -> Array:
        """Logits of images. Returns: float32 (len(images), classes)."""
        return np.concatenate(list(self._batches(images, batch_size)))

    def _batches(self, images: Sequence[ImageLike], batch_size: int) -> Iterator[Array]:
        for start in range(0, len(images), batch_size):
            chunk = images[start : start + batch_size]
            yield self.forward(np.stack([preprocess(image, self.input) for image in chunk]))

    def _top(self, logits: Array, topk: int) -> Prediction:
        probabilities = softmax(logits)
        order = np.argsort(-probabilities, kind="stable")[:topk]
        return Prediction(
            tuple(int(i) for i in order),
            tuple(self.labels[i] if self.labels else str(i) for i in order),
            tuple(float(probabilities[i]) for i in order),
        )


def _sampled(model: nn.Module, mc_samples: int) -> Callable[[Tensor], Tensor]:
    from .layers.mc_dropout import mc_predict, mc_sampling

    try:
        with mc_sampling(model):
            pass
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return lambda x: mc_predict(model, x, mc_samples).probabilities.log()


def softmax(logits: Array) -> Array:
    """Softmax over the last axis, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    total: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return total
