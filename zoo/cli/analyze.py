"""What the verbs of `analyze` share: options, models, data, progress, and the files they write."""

from __future__ import annotations

import csv
import functools
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..files.json_text import to_json
from ._console import LazyGroup
from ._options import SEED, model_options, say, unreadable_option
from ._references import ModelReference, complete_data, other_weights

if TYPE_CHECKING:
    from torch import nn

    from ..analysis._hooks import ImageBatches
    from ..analysis._results import Result
    from ..data.dataset import ImageDataset


_COMMON = (
    "data", "part", "images", "batch_size", "out", "fast", "seed", "init", "as_json",
    "on_unreadable", "keywords", "weights",
)  # fmt: skip
ALL = 1_000_000_000  # more images than any data set has


@dataclass(frozen=True)
class Request:
    """What the common options say.

    Args:
        models: references; init: seed of random weights instead of trained ones, or None.
        data, part, images: data specification, its part, and how many images at most.
        fast: the preset that finishes in a minute on the bundled models.
    """

    models: tuple[str, ...]
    data: str
    part: str
    images: int | None
    batch_size: int
    out: Path
    fast: bool
    seed: int
    init: int | None
    as_json: bool
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
        say(other_weights(model.pretrained_cfg.name, self.data))
        return model

    def name(self, reference: str, name: str, seen: set[str]) -> str:
        """The model's name; with the reference's last part if two models share it."""
        if name in seen:
            name = f"{name} ({Path(reference).name})"
        seen.add(name)
        return name


def analysis_options(several: bool = True, part: str = "test", batch_size: int = 64) -> Any:
    """MODEL... and the options of every analysis; the function gets a `Request` first."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(models: Any, **values: Any) -> None:
            names = tuple(models) if several else (models,)
            common = {key: values.pop(key) for key in _COMMON}
            function(Request(names, **common), **values)

        wrapped: Callable[..., None] = run
        wrapped = model_options()(wrapped)
        for option in reversed(_options(several, part, batch_size)):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def _options(several: bool, part: str, batch_size: int) -> list[Any]:
    data = "digits, fashion_mnist, DIR, cifar10:DIR, cifar100:DIR or imagenet:DIR."
    parts = click.Choice(["train", "validation", "test", "all"])
    models = {"metavar": "MODEL...", "nargs": -1} if several else {"metavar": "MODEL"}
    return [
        click.argument("models", type=ModelReference(), required=True, **models),
        click.option(
            "--data", required=True, help=data, shell_complete=complete_data
        ),
        click.option(
            "--part", default=part, show_default=True, type=parts,
            help="Part of the data; all: of a folder.",
        ),
        click.option("--images", type=click.IntRange(2), help="Use at most so many, at random."),
        click.option(
            "--batch-size", default=batch_size, show_default=True, type=click.IntRange(1),
            help="Images at once.",
        ),
        click.option(
            "--out", required=True, type=click.Path(path_type=Path),
            help="Directory for the figure (PNG, SVG) and the numbers (JSON, CSV).",
        ),
        click.option("--fast", is_flag=True, help="Fewer images and points: under a minute."),
        click.option("--seed", default=0, show_default=True, type=SEED, help="Of all randomness."),
        click.option(
            "--init", type=SEED, metavar="SEED", help="Random weights instead of trained ones."
        ),
        unreadable_option(),
        click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON."),
    ]  # fmt: skip


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


def finish(
    request: Request,
    verb: str,
    results: Sequence[Result],
    plot: Callable[[Sequence[Any], Path], None],
    images: ImageDataset | None = None,
    **facts: Any,
) -> None:
    """Write figure, numbers and table into --out, and say so."""
    from ..files.local import make_directory, write_text
    from ..files.provenance import provenance

    out = make_directory(request.out)
    rows = [row for result in results for row in result.rows()]
    used = {"data": images.name, "images": len(images)} if images is not None else {}
    if images is not None and images.skipped:
        used["skipped"] = list(images.skipped)
    content = {
        "analysis": verb,
        **used,
        **facts,
        "results": [result.to_dict() for result in results],
        "rows": [{key: _cell(value) for key, value in row.items()} for row in rows],
        "seconds": round(time.perf_counter() - request.started, 1),
        **provenance(request.seed),
    }
    for suffix in ("png", "svg"):
        plot(results, out / f"{verb}.{suffix}")
    write_text(out / f"{verb}.json", to_json(content, indent=1) + "\n")
    write_text(out / f"{verb}.csv", to_csv(rows))
    if request.as_json:
        click.echo(to_json(content, indent=1))
        return
    from ._console import table

    header = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_text(row.get(key)) for key in header] for row in rows]
    numeric = [i for i, key in enumerate(header) if _is_numeric(rows, key)]
    click.echo(table(header, cells[:60], right=numeric))
    if len(cells) > 60:
        click.echo(f"... and {len(cells) - 60} more in {verb}.csv")
    click.echo(f"wrote {verb}.png, .svg, .json and .csv to {out} in {content['seconds']:.0f} s")


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """All rows under the union of their keys."""
    buffer = io.StringIO()
    header = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(buffer, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: "" if value is None else _cell(value) for key, value in row.items()} for row in rows
    )
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    from ..analysis._results import rounded

    return rounded(value) if isinstance(value, float) else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_numeric(rows: Sequence[dict[str, Any]], key: str) -> bool:
    values = [row.get(key) for row in rows if row.get(key) is not None]
    return bool(values) and all(isinstance(value, int | float) for value in values)


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
