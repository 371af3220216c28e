"""What the verbs of `analyze` share: options, models, data, progress, and the files they write."""

from __future__ import annotations

import csv
import functools
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torch import nn

    from ..analysis._batches import ImageBatches
    from ..analysis._results import Result
    from ..datasets import ImageDataset

_COMMON = ("data", "part", "images", "batch_size", "out", "fast", "seed", "init", "as_json")
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
    started: float = field(default_factory=time.perf_counter)

    def dataset(self, fast: int, usual: int = ALL) -> ImageDataset:
        """Images of the part, at random (by the seed) if there are more than asked for.

        Args: fast, usual: how many with and without --fast, where --images does not say.
        """
        import numpy as np

        from ..datasets import open_dataset

        images = open_dataset(self.data, self.part)
        count = self.images or (fast if self.fast else usual)
        if len(images) <= count:
            return images
        chosen = np.random.default_rng(self.seed).permutation(len(images))[:count]
        return images.subset(sorted(int(i) for i in chosen))

    def batches(self, dataset: ImageDataset, model: nn.Module) -> ImageBatches:
        """The images as a model takes them."""
        from ..analysis._batches import ImageBatches
        from ..errors import ConfigError
        from ..pretrained import PretrainedCfg

        cfg = PretrainedCfg.of(model)
        if cfg is None:
            raise ConfigError(
                f"{type(model).__name__} does not say what its input is; name a model that "
                "create_model can build"
            )
        return ImageBatches(dataset, cfg.input, self.batch_size)

    def load(self) -> Iterator[tuple[str, nn.Module]]:
        """Models one after another, with a name for figures."""
        from ..errors import ConfigError
        from ..references import is_artefact

        seen: set[str] = set()
        for reference in self.models:
            if is_artefact(reference):
                raise ConfigError(
                    f"{reference!r} is an exported file; this analysis looks inside a model. "
                    "analyze robustness and analyze noise take exported files"
                )
            model = load_model(reference, self.init).eval()
            yield self.name(reference, model.pretrained_cfg.name, seen), model

    def name(self, reference: str, name: str, seen: set[str]) -> str:
        """The model's name; with the reference's last part if two models share it."""
        if name in seen:
            name = f"{name} ({Path(reference).name})"
        seen.add(name)
        return name


def load_model(reference: str, init: int | None) -> nn.Module:
    """A trained model, or with `init` one with random weights. Raises: NoWeightsError..."""
    from ..factory import create_model, create_random
    from ..references import is_registry_name

    if init is None:
        return create_model(reference, pretrained=True)
    if is_registry_name(reference):
        return create_random(reference, init)
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(init)
        return create_model(reference, pretrained=False)


def analysis_options(several: bool = True, part: str = "test", batch_size: int = 64) -> Any:
    """MODEL... and the options of every analysis; the function gets a `Request` first."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(models: Any, **values: Any) -> None:
            names = tuple(models) if several else (models,)
            common = {key: values.pop(key) for key in _COMMON}
            function(Request(names, **common), **values)

        wrapped: Callable[..., None] = run
        for option in reversed(_options(several, part, batch_size)):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def _options(several: bool, part: str, batch_size: int) -> list[Any]:
    data = "digits, DIR, cifar10:DIR, cifar100:DIR or imagenet:DIR."
    parts = click.Choice(["train", "validation", "test"])
    models = {"metavar": "MODEL...", "nargs": -1} if several else {"metavar": "MODEL"}
    return [
        click.argument("models", required=True, **models),
        click.option("--data", required=True, help=data),
        click.option(
            "--part", default=part, show_default=True, type=parts, help="Part of the data."
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
        click.option("--seed", default=0, show_default=True, help="Of everything random."),
        click.option(
            "--init", type=int, metavar="SEED", help="Random weights instead of trained ones."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON."),
    ]  # fmt: skip


@contextmanager
def steps(request: Request, total: int, what: str) -> Iterator[Callable[[int], None]]:
    """An `on_step` for the analyses: it takes how far they are."""
    from ._progress import progress

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
    from ..files import make_directory, write_text
    from ..measurement import provenance

    out = make_directory(request.out)
    rows = [row for result in results for row in result.rows()]
    used = {"data": images.name, "images": len(images)} if images is not None else {}
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
    write_text(out / f"{verb}.json", json.dumps(content, indent=1) + "\n")
    write_text(out / f"{verb}.csv", to_csv(rows))
    if request.as_json:
        click.echo(json.dumps(content, indent=1))
        return
    from ._text import table

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
    from ..analysis._estimates import rounded

    return rounded(value) if isinstance(value, float) else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_numeric(rows: Sequence[dict[str, Any]], key: str) -> bool:
    values = [row.get(key) for row in rows if row.get(key) is not None]
    return bool(values) and all(isinstance(value, int | float) for value in values)


def training_batches(
    request: Request, model: nn.Module, dataset: ImageDataset, batch_size: int
) -> list[tuple[Any, Any]]:
    """Training images augmented as the data's recipe does, with its mixup; fixed by the seed."""
    import numpy as np

    from ..training.plan import seeded
    from ..training.recipes import default_recipe, scaled
    from ..training.sources import open_source

    recipe = scaled(default_recipe(request.data), seed=request.seed, batch_size=batch_size)
    source = open_source(dataset, model.pretrained_cfg.input, recipe, 0)
    order = np.random.default_rng(request.seed).permutation(len(dataset))
    pairs = np.stack([order, np.zeros_like(order)], axis=1)
    chunks = [pairs[i : i + batch_size] for i in range(0, len(pairs), batch_size)]
    chunks = [chunk for chunk in chunks if len(chunk) > 1]
    with seeded(request.seed):
        batches = list(source.batches(1, chunks, 0, 1))
        if not (recipe.mixup or recipe.cutmix):
            return batches
        from timm.data import Mixup

        mix = Mixup(
            recipe.mixup, recipe.cutmix, label_smoothing=0.0, num_classes=len(dataset.labels)
        )
        even = ((x[: len(x) // 2 * 2], y[: len(x) // 2 * 2]) for x, y in batches)
        return [mix(images, targets) for images, targets in even]
