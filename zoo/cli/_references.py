"""Arguments that name models, data and recipes: checked and completed without torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..catalog._data_sets import DATA_SETS
from ..catalog.references import kind_of
from ..catalog.registry import get_record, list_models


class ModelReference(click.ParamType):
    """A model reference. A name that the registry does not know is refused before any work."""

    name = "MODEL"

    def convert(self, value: str, param: Any, ctx: click.Context | None) -> str:
        checked = ctx is None or not ctx.resilient_parsing
        if value and checked and not os.path.exists(value) and kind_of(value) == "name":
            get_record(value)  # raises UnknownModelError, with what it might have been
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return _matching(list_models(), incomplete)


def other_weights(name: str, data: str) -> str:
    """A remark where these weights were not trained on the data, but others of the model were.

    Args:
        name: of the weights, "resnet_nano.digits"; of other models, whatever they are called.
        data: specification of the images.
    """
    from ..training.start import tag_of

    model, _, tag = name.partition(".")
    other = f"{model}.{tag_of(data)}"
    if (
        tag in ("", "random")
        or other == name
        or other not in list_models(with_tags=True, pretrained=True)
    ):
        return ""
    return f"{name} was not trained on these images; {other} was"


def complete_data(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Data sets that need no folder, else paths."""
    return _matching(DATA_SETS, incomplete)


def complete_recipe(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Training recipes."""
    from ..training.recipes import RECIPES

    return _matching(RECIPES, incomplete)


def _matching(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]
