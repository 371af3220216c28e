"""Options of evaluate that say nothing of the data or the model at hand are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._given import given_options

if TYPE_CHECKING:
    from ..evaluation.batch.items import Source


def check_usage(corrupted: bool, mc_samples: int | None) -> None:
    """Raises: click.UsageError for what neither kind of data heeds, before a model is loaded."""
    if given_options("plots") and not given_options("out"):
        raise click.UsageError("--plots needs --out DIR, where the pictures go")
    idle = given_options("parts", "plots", "bins", "cutoffs", "column", "label_column")
    if corrupted and idle:
        raise click.UsageError(
            "corrupted data has no parts and no plots, bins, cutoffs or columns; leave out "
            f"{', '.join(idle)}"
        )
    if given_options("corruptions") and not corrupted:
        raise click.UsageError("--corruption is for cifar10-c:, cifar100-c: and imagenet-c: data")
    if given_options("seed") and not mc_samples:
        raise click.UsageError(
            "--seed is of MC dropout's masks and would have no effect; add --mc-samples, or leave "
            "it out"
        )


def check_columns(source: Source | None) -> None:
    """Raises: click.UsageError for columns of what has none; None is data that is no source."""
    from ..evaluation.batch.parquet_rows import Parquet
    from ..evaluation.batch.sources import Shards

    first = source.sources[0] if isinstance(source, Shards) else source
    idle = given_options("column", "label_column")
    if idle and not isinstance(first, Parquet):
        raise click.UsageError(f"{', '.join(idle)}: columns are of parquet files; leave them out")
