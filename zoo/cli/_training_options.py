"""The options of train, in the order of its help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._given import given, refuse_idle
from ._options import SEED, ImageSize, keywords_of, unreadable_option
from ._references import complete_data, complete_recipe

if TYPE_CHECKING:
    from ..training.machine import Machine

# Options that change one field of the recipe each.
RECIPE_FIELDS = ("epochs", "batch_size", "lr", "seed", "amp")
# Options that say how this computer takes part.
MACHINE_FIELDS = ("workers", "cpu", "micro_batch", "threads")
_RUN = ("resume", "overwrite", "export", "diagnostics", "tensorboard")
# What each other mode than a single training takes beside --out and --json.
_TAKEN = {
    "sweep": {
        "model", "data", "recipe", "fields", "img_size", "fraction", "on_unreadable", "resume",
        *RECIPE_FIELDS, *MACHINE_FIELDS,
    },
    "reproduce": {"model", "recipe", "epochs", *_RUN, *MACHINE_FIELDS},
    "probe": {
        "model", "data", "img_size", "finetune_from", "fraction", "on_unreadable",
    },
}  # fmt: skip
_OPTIONS = (
    click.option(
        "--data",
        shell_complete=complete_data,
        metavar="NAME|DIR|KIND:DIR",
        help="digits, fashion_mnist, a folder of class folders, or fashion_mnist:DIR, cifar10:DIR, "
        "cifar100:DIR, imagenet:DIR.",
    ),
    click.option("--out", required=True, type=click.Path(path_type=Path), help="Run directory."),
    click.option(
        "--recipe",
        shell_complete=complete_recipe,
        metavar="NAME",
        help="Default: by data and model; docs/training.md.",
    ),
    click.option("--epochs", type=click.IntRange(1), help="Default: the recipe's."),
    click.option("--batch-size", type=click.IntRange(2), help="Of all processes together."),
    click.option("--lr", type=float, help="At the recipe's reference batch."),
    click.option("--seed", type=SEED, help="Default: 0."),
    click.option("--amp", type=click.Choice(["no", "bf16", "fp16"]), help="Mixed precision."),
    click.option("--set", "fields", multiple=True, metavar="FIELD=VALUE", help="Recipe field."),
    click.option("--config", multiple=True, metavar="KEY=VALUE", help="Keyword of the model."),
    click.option("--img-size", type=ImageSize(8), help="Of the input, in pixels: 224 or 192,256."),
    click.option("--finetune-from", metavar="REF", help="Start from these weights."),
    click.option(
        "--from-scratch",
        is_flag=True,
        help="Random weights. Default for a folder: the model's own weights, where they exist.",
    ),
    click.option("--freeze", multiple=True, metavar="PART", help="'backbone' or a module."),
    click.option(
        "--fraction",
        type=click.FloatRange(0, 1, min_open=True),
        help="Of the images; as many are seen. Default: all.",
    ),
    unreadable_option(),
    click.option("--overwrite", is_flag=True, help="Replace a finished directory at OUT."),
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
    click.option(
        "--workers",
        type=click.IntRange(0),
        help="That decode, if the recipe streams. Default: by the cores.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(0),
        default=0,
        help="That compute. Default: the cores available (affinity, quota).",
    ),
    click.option("--micro-batch", type=click.IntRange(0), default=0, help="Images at once."),
    click.option("--cpu", is_flag=True, help="Stay off the GPU."),
    click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON."),
)


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All options of train, as a decorator."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def refuse_idle_options() -> None:
    """Raise click.UsageError for options that would be dropped in silence."""
    modes = [parameter for parameter in given() if parameter.name in _TAKEN]
    if len(modes) > 1:
        raise click.UsageError("give one of --sweep, --reproduce and --probe")
    for mode in modes:
        taken = {*_TAKEN[str(mode.name)], mode.name, "out", "as_json"}
        refuse_idle({p.name or "" for p in given()} - taken, mode.opts[0])


def machine_of(options: dict[str, Any]) -> Machine:
    """How this computer takes part."""
    from ..training.machine import Machine

    return Machine(**{name: options[name] for name in MACHINE_FIELDS})


def recipe_changes(options: dict[str, Any]) -> dict[str, Any]:
    """Fields of the recipe: those of --set, and those that have an option of their own.

    Raises: click.UsageError for a field that is given twice.
    """
    own = {name: options[name] for name in RECIPE_FIELDS if options[name] is not None}
    flags = {name: f"--{name.replace('_', '-')}" for name in own}
    return {**keywords_of(options["fields"], "--set", flags), **own}


def model_keywords(options: dict[str, Any]) -> dict[str, Any]:
    """What --config says. Raises: click.UsageError for a keyword that is given twice."""
    flags = {} if options["img_size"] is None else {"img_size": "--img-size"}
    return keywords_of(options["config"], "--config", flags)
