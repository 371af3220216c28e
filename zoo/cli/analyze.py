"""What the verbs of `analyze` share: options, models, data and progress."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._console import LazyGroup
from ._options import SEED, model_options, say, unreadable_option
from ._references import ModelReference, complete_data, other_weights

if TYPE_CHECKING:
    from torch import nn

    from ..analysis._hooks import ImageBatches
    from ..data.dataset import ImageDataset


_COMMON = (
    "data", "part", "images", "batch_size", "out", "fast", "seed", "init", "as_json",
    "on_unreadable", "keywords", "weights",
)  # fmt: skip
ALL = 1_000_000_000  # more images than any data set has


@dataclass(frozen=True)
class Request:
    """What the common options say; those that an analysis has no use for, it does not offer.

    Args:
        models: references; init: seed of random weights instead of trained ones, or None.
        data, part, images: data specification ("": none), its part, and how many images at most.
        fast: the preset that finishes in a minute on the bundled models.
    """

    models: tuple[str, ...]
    out: Path
    data: str = ""
    part: str = "test"
    images: int | None = None
    batch_size: int = 64
    fast: bool = False
    seed: int = 0
    init: int | None = None
    as_json: bool = False
    keywords: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    on_unreadable: str = "stop"
    started: float = field(default_factory=time.perf_counter)

    def dataset(self, fast: int, usual: int = ALL) -> ImageDataset:
        """Images of the part, at random (by the seed) if there are more than asked for.

        Args: fast, usual: how many with and without --fast, where --images does not say.
        """
        import numpy as np

        from ..data.image_listing import skipped_remark
        from ..data.opening import open_dataset

        images = open_dataset(self.data, self.part, on_unreadable=self.on_unreadable)
        say(skipped_remark(images.skipped))
        count = self.images or (fast if self.fast else usual)
        if len(images) <= count:
            return images
        chosen = np.random.default_rng(self.seed).permutation(len(images))[:count]
        return images.subset(sorted(int(i) for i in chosen))

    def batches(self, dataset: ImageDataset, model: nn.Module) -> ImageBatches:
        """The images as a model takes them."""
        from ..analysis._hooks import ImageBatches
        from ..errors import ConfigError
        from ..factory.description import PretrainedCfg

        cfg = PretrainedCfg.of(model)
        if cfg is None:
            raise ConfigError(
                f"{type(model).__name__} does not say what its input is; name a model that "
                "create_model can build"
            )
        return ImageBatches(dataset, cfg.input, self.batch_size)

    def labelled(self, dataset: ImageDataset, model: nn.Module) -> ImageDataset:
        """The images with the model's own class numbers. Raises: DatasetError for other classes."""
        from ..data.dataset import in_classes_of

        cfg = model.pretrained_cfg
        return in_classes_of(dataset, cfg.labels, cfg.num_classes)

    def load(self) -> Iterator[tuple[str, nn.Module]]:
        """Models one after another, with a name for figures."""
        from ..catalog.references import kind_of
        from ..errors import ConfigError

        seen: set[str] = set()
        for reference in self.models:
            if kind_of(reference) == "file":
                raise ConfigError(
                    f"{reference!r} is an exported file; this analysis looks inside a model. "
                    "analyze robustness and analyze noise take exported files"
                )
            model = self.load_one(reference).eval()
            yield self.name(reference, model.pretrained_cfg.name, seen), model

    def load_one(self, reference: str) -> nn.Module:
        """A model as the options say. Raises: NoWeightsError, ConfigError."""
        from ..factory.create import load_model

        model = load_model(reference, self.weights, self.init, **self.keywords)
        say(other_weights(model.pretrained_cfg.name, self.data) if self.data else "")
        return model

    def name(self, reference: str, name: str, seen: set[str]) -> str:
        """The model's name; with the reference's last part if two models share it."""
        if name in seen:
            name = f"{name} ({Path(reference).name})"
        seen.add(name)
        return name


def analysis_options(
    several: bool = True, part: str = "test", batch_size: int = 64, without: Collection[str] = ()
) -> Any:
    """MODEL... and the options of every analysis; the function gets a `Request` first.

    Args: without: names of those that would have no effect.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(models: Any, **values: Any) -> None:
            names = tuple(models) if several else (models,)
            common = {key: values.pop(key) for key in _COMMON if key in values}
            function(Request(names, **common), **values)

        wrapped: Callable[..., None] = run
        wrapped = model_options(weights="weights" not in without)(wrapped)
        for name, option in reversed(_options(several, part, batch_size).items()):
            wrapped = wrapped if name in without else option(wrapped)
        return wrapped

    return decorate


def _options(several: bool, part: str, batch_size: int) -> dict[str, Any]:
    data = "digits, fashion_mnist, DIR, cifar10:DIR, cifar100:DIR or imagenet:DIR."
    parts = click.Choice(["train", "validation", "test", "all"])
    models = {"metavar": "MODEL...", "nargs": -1} if several else {"metavar": "MODEL"}
    return {
        "models": click.argument("models", type=ModelReference(), required=True, **models),
        "data": click.option("--data", required=True, help=data, shell_complete=complete_data),
        "part": click.option(
            "--part", default=part, show_default=True, type=parts,
            help="Part of the data; all: of a folder.",
        ),
        "images": click.option(
            "--images", type=click.IntRange(2), help="Use at most so many, at random."
        ),
        "batch_size": click.option(
            "--batch-size", default=batch_size, show_default=True, type=click.IntRange(1),
            help="Images at once.",
        ),
        "out": click.option(
            "--out", required=True, type=click.Path(path_type=Path),
            help="Directory for the figure (PNG, SVG) and the numbers (JSON, CSV).",
        ),
        "fast": click.option(
            "--fast", is_flag=True, help="Fewer images and points: under a minute."
        ),
        "seed": click.option(
            "--seed", default=0, show_default=True, type=SEED, help="Of all randomness."
        ),
        "init": click.option(
            "--init", type=SEED, metavar="SEED", help="Random weights instead of trained ones."
        ),
        "on_unreadable": unreadable_option(),
        "as_json": click.option(
            "--json", "as_json", is_flag=True, help="Print the numbers as JSON."
        ),
    }  # fmt: skip


@contextmanager
def steps(request: Request, total: int, what: str) -> Iterator[Callable[[int], None]]:
    """An `on_step` for the analyses: it takes how far they are."""
    from ._console import progress

    done = [0]
    with progress(total, what) as advance:

        def on_step(number: int) -> None:
            advance(number - done[0])
            done[0] = number

        yield on_step


# verb -> (module, help line)
_VERBS = {
    "fourier": ("analyses", "Frequencies of feature maps over depth."),
    "variance": ("analyses", "Variance of feature maps over depth."),
    "lesion": ("analyses", "Accuracy without each block."),
    "specificity": ("analyses", "What depends on the image, what on the place."),
    "filters": ("analyses", "Which layers are low-pass, which high-pass."),
    "nonlocality": ("analyses", "How far every head looks."),
    "gates": ("analyses", "ConViT's gates and positional attention."),
    "attention": ("analyses", "Where heads look from one patch."),
    "similarity": ("analyses", "Whether all queries look at the same."),
    "landscape": ("analyses_of_loss", "The loss on a plane through weight space."),
    "hessian": ("analyses_of_loss", "Largest eigenvalues of the Hessian, batch by batch."),
    "robustness": ("analyses_of_noise", "Accuracy over 15 corruptions x 5 severities."),
    "noise": ("analyses_of_noise", "Accuracy under noise of one frequency, and filtered."),
    "buildup": ("analyses_of_loss", "From a CNN to AlterNet, one block at a time."),
    "sweep": ("analyses", "Curves and tables from `convattn train --sweep` runs."),
}


@click.group("analyze", cls=LazyGroup, verbs=_VERBS)
def analyze_command() -> None:
    """Measure what models do inside, and draw it: several models in one figure.

    Every analysis writes a figure (PNG, SVG) and its numbers (JSON, CSV) into --out. docs/analyses
    says what each one means.
    """
