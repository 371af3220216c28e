"""Images in, labels and probabilities out; the same for an eager model and for an exported file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..catalog.weights_records import InputSpec
from ..data.preprocessing import ImageLike, preprocess
from ..errors import ConfigError, InputError
from ..factory.description import PretrainedCfg
from .answers import as_logits, image_list, softmax, warn_of_probabilities
from .checks import check_count, check_list, check_model
from .eval_mode import in_eval_mode

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
class Row:
    """The answer for one image of a source.

    Args:
        path: of the image.
        prediction: None if it cannot be read.
        error: why it cannot; "" otherwise.
    """

    path: str
    prediction: Prediction | None
    error: str = ""


@dataclass(frozen=True)
class Predictor:
    """A function from batches to logits, with the preprocessing and the labels that belong to it.

    Args:
        forward: float32 array (B, C, H, W) -> float array (B, classes).
        input: preprocessing.
        labels: class names, or empty.
        name: for messages.
        weights_sha256: digest of the weights file, or empty where it is not known.
        origin: what runs and where: provider, and of an exported file its name and digest.
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
    origin: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_model(
        cls,
        model: nn.Module,
        mc_samples: int = 0,
        *,
        input: InputSpec | None = None,
        labels: Sequence[str] = (),
    ) -> Predictor:
        """Wrap a model of `zoo.create_model`, or any module; it is put into eval mode, and answers
        in that mode also where it is trained on afterwards.

        Args:
            input: preprocessing, of a module that the zoo did not build; else in place of its own.
            labels: class names, likewise.
            mc_samples: 0, or the number of forward passes with MC dropout on; then the "logits" are
                the logarithm of the mean of their probabilities. `torch.manual_seed` fixes the
                masks.
        Raises: ConfigError if the model does not say what its input is, or has no MC dropout to
            sample from; when it is used, if the model returns feature maps.
        """
        import torch

        check_model(model)
        check_count("mc_samples", mc_samples, 0)
        cfg, name = PretrainedCfg.of(model), type(model).__name__
        spec = input or (cfg and cfg.input)
        if not spec:
            raise ConfigError(
                f"{name} does not say how images are prepared; pass "
                "input=zoo.InputSpec(size=(224, 224), mean=..., std=...), or build it with "
                "zoo.create_model"
            )
        names, digest = check_list("labels", labels), ""
        if cfg is not None:
            names, name, digest = names or cfg.labels, cfg.name, cfg.sha256
        model.eval()
        reference = next(model.parameters(), torch.empty(0))
        run = _sampled(model, mc_samples) if mc_samples else model

        def forward(batch: Array) -> Array:
            with torch.inference_mode(), in_eval_mode(model):
                x = torch.tensor(batch, dtype=reference.dtype, device=reference.device)
                logits = run(x)
            if not isinstance(logits, torch.Tensor):
                raise ConfigError(f"{name} returns feature maps, not logits: nothing to predict")
            values: Array = logits.float().cpu().numpy()
            return values

        origin = {"provider": f"torch-{reference.device.type}"}
        return cls(forward, spec, names, name, digest, origin)

    def __call__(self, image: ImageLike, topk: int = 5) -> Prediction:
        """Classify one image. Raises: as `predict`."""
        return self.predict([image], topk)[0]

    def predict(
        self, images: Sequence[ImageLike], topk: int = 5, batch_size: int = 32
    ) -> list[Prediction]:
        """Classify images (paths, PIL images, uint8 arrays), one `Prediction` each, in order. One
        image alone is one; an iterator is read to its end.

        Raises: ImageError, ResourceError; ConfigError for a `topk` or `batch_size` below 1;
            InputError: as `logits`.
        """
        check_count("topk", topk)
        return [self.top(row, topk) for batch in self._batches(images, batch_size) for row in batch]

    def logits(self, images: Sequence[ImageLike], batch_size: int = 32) -> Array:
        """Logits of images.

        Returns: float32 (len(images), classes).
        Raises: as `predict`; InputError for no images, or (code "not_finite") for logits that are
            NaN or infinite: they answer nothing.
        """
        images = image_list(images)
        if not len(images):
            raise InputError("no images to classify; pass at least one", code="no_images")
        return np.concatenate(list(self._batches(images, batch_size)))

    def _batches(self, images: Sequence[ImageLike], batch_size: int) -> Iterator[Array]:
        check_count("batch_size", batch_size)
        images = image_list(images)
        for start in range(0, len(images), batch_size):
            chunk = [images[i] for i in range(start, min(start + batch_size, len(images)))]
            yield self.outputs(np.stack([preprocess(image, self.input) for image in chunk]), chunk)

    def outputs(self, batch: Array, images: Sequence[ImageLike]) -> Array:
        """What the model returns for a batch that is prepared.

        Args:
            batch: float32 (B, C, H, W).
            images: where it comes from, for messages.
        Raises: InputError (code "not_finite"), ConfigError (code "not_logits").
        """
        found = as_logits(self.forward(batch), images, self.name)
        warn_of_probabilities(found, self.name)
        return found

    def stream(
        self,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        topk: int = 5,
        *,
        batch_size: int = 32,
        workers: int = 0,
        on_unreadable: str = "stop",
        column: str = "",
    ) -> Iterator[Row]:
        """Classify any number of images in constant memory, decoding while the model computes.

        Args:
            source: a folder, a list of files (.txt), parquet files, tar archives, or image files.
            batch_size: images that the model sees at once.
            workers: threads that decode; 0: as many as there are cores.
            on_unreadable: "stop", or "skip": the row of such an image has an `error`.
            column: of a parquet file; "" finds it.
        Returns: one `Row` an image, in the order of the source.
        Raises: as `predict`; as `zoo.evaluation.batch.sources.open_source`.
        """
        from .batch.sources import open_source
        from .batch.stream import answers

        check_count("topk", topk)
        images = open_source(source, column)
        how = {"batch_size": batch_size, "workers": workers, "on_unreadable": on_unreadable}
        for found in answers(self.outputs, self.input, images, **how):
            prediction = None if found.values is None else self.top(found.values, topk)
            yield Row(found.path, prediction, found.error)

    def top(self, logits: Array, topk: int) -> Prediction:
        """The most probable classes.

        Args:
            logits: (classes,).
        Raises: ConfigError (code "labels") if there are more or fewer classes than labels.
        """
        if self.labels and len(self.labels) != len(logits):
            raise ConfigError(
                f"{self.name[:80]} answers with {len(logits)} classes and has names for "
                f"{len(self.labels)}; name another model with --like, or export it again",
                code="labels",
            )
        probabilities = softmax(logits)
        order = np.argsort(-probabilities, kind="stable")[:topk]
        return Prediction(
            tuple(int(i) for i in order),
            tuple(self.labels[i] if self.labels else str(i) for i in order),
            tuple(float(probabilities[i]) for i in order),
        )


def _sampled(model: nn.Module, mc_samples: int) -> Callable[[Tensor], Tensor]:
    import torch

    from ..layers.mc_dropout import mc_predict, mc_sampling

    try:
        with mc_sampling(model):
            pass
    except ValueError as error:
        raise ConfigError(str(error)) from None
    least = torch.finfo(torch.float32).tiny  # a probability that underflowed stays comparable
    return lambda x: mc_predict(model, x, mc_samples).probabilities.clamp_min(least).log()
