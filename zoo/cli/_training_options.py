"""The options of `convattn train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ._options import json_or_text

# Options that change one field of the recipe each.
RECIPE_FIELDS = ("epochs", "batch_size", "lr", "seed", "amp")


def key_values(pairs: Sequence[str]) -> dict[str, Any]:
    """``["depth=3", "gating=fixed"]`` -> values as `json_or_text` reads them.

    Raises: click.BadParameter.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{pair!r} must be NAME=VALUE")
        found[key] = json_or_text(text)
    return found


_OPTIONS = (
    click.option(
        "--data",
        metavar="digits|DIR|KIND:DIR",
        help="digits, a folder of class folders, or cifar10:DIR, cifar100:DIR, imagenet:DIR.",
    ),
    click.option("--out", required=True, type=click.Path(path_type=Path), help="Run directory."),
    click.option("--recipe", metavar="NAME", help="Default: by the data; docs/training.md."),
    click.option("--epochs", type=click.IntRange(1), help="Default: the recipe's."),
    click.option("--batch-size", type=click.IntRange(2), help="Of all processes together."),
    click.option("--lr", type=float, help="At the recipe's reference batch."),
    click.option("--seed", type=click.IntRange(0), help="Default: 0."),
    click.option("--amp", type=click.Choice(["no", "bf16", "fp16"]), help="Mixed precision."),
    click.option("--set", "fields", multiple=True, metavar="FIELD=VALUE", help="Recipe field."),
    click.option("--config", multiple=True, metavar="KEY=VALUE", help="Keyword of the model."),
    click.option("--img-size", type=click.IntRange(8), help="Side of the input in pixels."),
    click.option("--finetune-from", metavar="REF", help="Start from these weights."),
    click.option("--freeze", multiple=True, metavar="PART", help="'backbone' or a module."),
    click.option(
        "--fraction",
        type=click.FloatRange(0, 1, min_open=True),
        default=1.0,
        help="Of the images; as many are seen.",
    ),
    click.option(
        "--on-unreadable",
        type=click.Choice(["fail", "skip"]),
        default="fail",
        show_default=True,
        help="Images that cannot be decoded.",
    ),
    click.option("--resume", is_flag=True, help="Continue the run in OUT, or begin it."),
    click.option(
        "--export",
        multiple=True,
        type=click.Choice(["onnx", "torchscript", "pt2"]),
        help="Verified, in OUT.",
    ),
    click.option("--diagnostics", is_flag=True, help="Log attention to OUT/diagnostics.jsonl."),
    click.option("--tensorboard", is_flag=True, help="Log to OUT/tensorboard."),
    click.option(
        "--probe", type=click.Choice(["linear", "knn"]), help="Classify frozen features instead."
    ),
    click.option("--sweep", metavar="FILE|NAME", help="A grid of runs; docs/training.md."),
    click.option("--reproduce", metavar="NAME", help="Train bundled weights again."),
    click.option("--workers", type=click.IntRange(0), default=0, help="Processes that decode."),
    click.option("--micro-batch", type=click.IntRange(0), default=0, help="Images at once."),
    click.option("--cpu", is_flag=True, help="Stay off the GPU."),
    click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON."),
)


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All options of train, as a decorator."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
