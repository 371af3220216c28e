"""Options and values that several verbs take."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from ..catalog.checked_json import MAX_BYTES, conform, parse_json

_LIBRARIES = "convattn.provider_libraries"  # in the context of a command


def provider_option(
    help: str = "Where an exported file runs.",
    providers: Sequence[str] = ("cpu", "cuda", "tensorrt", "openvino"),
) -> Callable[[Any], Any]:
    """``--provider``, the CPU by default; ``--provider-library`` brings others."""

    def decorate(function: Any) -> Any:
        function = library_option()(function)
        kind = _Provider(providers)
        return click.option("--provider", default="cpu", show_default=True, type=kind, help=help)(
            function
        )

    return decorate


def library_option() -> Callable[[Any], Any]:
    """``--provider-library``: loaded at once, before the other options are read."""

    def load(context: Any, parameter: Any, paths: tuple[str, ...]) -> None:
        context.meta[_LIBRARIES] = paths
        if paths:
            from export.runtime.plugins import load_library

            for path in paths:
                load_library(path)

    return click.option(
        "--provider-library",
        multiple=True,
        metavar="PATH",
        callback=load,
        is_eager=True,
        expose_value=False,
        help="A library (code!) that brings a provider, to name with --provider.",
    )


def loaded_libraries() -> tuple[str, ...]:
    """What ``--provider-library`` of the running command named."""
    found: tuple[str, ...] = click.get_current_context().meta.get(_LIBRARIES, ())
    return found


class _Provider(click.Choice[str]):
    """One of some providers, or one that a loaded library brought."""

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if value not in self.choices:
            from export.runtime.plugins import brought_names

            if value in brought_names():
                return str(value)
        return super().convert(value, param, ctx)


SEED = click.IntRange(0, 2**63 - 1)
"""What torch and numpy both take."""


def trust_option() -> Callable[[Any], Any]:
    """``--trust-code``: TorchScript files and torch.export archives of others run too, and ONNX
    files whose cost has no bound.
    """
    return click.option(
        "--trust-code",
        is_flag=True,
        help="Run .pt and .pt2 files, and .onnx files without a bound, that others exported.",
    )


def like_option() -> Callable[[Any], Any]:
    """``--like``: a model that images are prepared for, where a file does not say."""
    return click.option(
        "--like", default="", metavar="MODEL", help="Prepare images as for that model."
    )


def unreadable_option() -> Callable[[Any], Any]:
    """``--on-unreadable``: stop at the first such image, or leave them out and name them."""
    return click.option(
        "--on-unreadable",
        default="stop",
        show_default=True,
        type=click.Choice(["stop", "skip"]),
        help="What an image that cannot be read does.",
    )


def say(*remarks: str) -> None:
    """Lines on stderr, without empty ones."""
    for remark in filter(None, remarks):
        click.echo(f"note: {remark}", err=True)


def model_options(weights: bool = True) -> Callable[[Any], Any]:
    """``--set`` and ``--weights``: what a reference alone does not say of a model.

    The command gets `keywords` and `weights`.
    """

    def decorate(function: Any) -> Any:
        if weights:
            function = click.option(
                "--weights", metavar="FILE", help="Weights for MODEL: safetensors or a checkpoint."
            )(function)
        return click.option(
            "--set",
            "keywords",
            multiple=True,
            metavar="KEY=VALUE",
            callback=lambda context, parameter, value: keywords_of(value),
            help="A constructor keyword of MODEL, e.g. img_size=384. Repeatable.",
        )(function)

    return decorate


def keywords_of(
    settings: Sequence[str], option: str = "--set", elsewhere: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """``("img_size=32", ...)`` as keywords, the values as `json_or_text` reads them.

    Args: option: that took them; elsewhere: keys that another option gives, and which one.
    Raises: click.UsageError, also for a key that is given twice.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.isidentifier():
            raise click.UsageError(f"{option} {setting!r} must be KEY=VALUE")
        other = (elsewhere or {}).get(key, option if key in found else "")
        if other:
            raise click.UsageError(f"{option} {setting!r}: {key} is given by {other} too; give one")
        found[key] = json_or_text(text)
    return found


def stated_options() -> Callable[[Any], Any]:
    """``--labels --mean --std --crop --interpolation``: what the user says of a model.

    The command gets `labels`, `mean`, `std`, `crop` and `interpolation`, for `stated`.
    """
    numbers = _Numbers()
    options = (
        click.option(
            "--labels",
            metavar="FILE|A,B,...",
            help="Class names: a file with one a line or a JSON list, or the names themselves.",
        ),
        click.option("--mean", type=numbers, help="Mean of each channel, for values in [0, 1]."),
        click.option("--std", type=numbers, help="Deviation of each channel."),
        click.option("--crop", type=float, metavar="SHARE", help="Share of the shorter side kept."),
        click.option(
            "--interpolation", type=click.Choice(["bicubic", "bilinear", "nearest"]),
            help="How images are resized.",
        ),
    )  # fmt: skip

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


class _Numbers(click.ParamType):
    """Numbers with commas between them."""

    name = "A,B,C"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"expected numbers with commas between them; got {value!r}", param, ctx)
        if not all(math.isfinite(number) for number in found):
            self.fail(f"expected finite numbers; got {value!r}", param, ctx)
        return found


def stated(options: dict[str, Any]) -> Any:
    """Takes the values of `stated_options` out of `options`: a `Stated`, or None.

    Raises: NotFoundError, ConfigError for a file of labels.
    """
    from ..factory.description import Stated

    names = ("labels", "mean", "std", "crop", "interpolation")
    given = {name: options.pop(name, None) for name in names}
    if all(value is None for value in given.values()):
        return None
    labels = given.pop("labels")
    return Stated(
        labels=None if labels is None else read_label_list(labels),
        crop_pct=given.pop("crop"),
        **given,
    )


def read_label_list(text: str) -> tuple[str, ...]:
    """Class names from ``--labels``. Raises: NotFoundError, ConfigError."""
    from ..errors import ConfigError, NotFoundError
    from ..files.local import read_regular_file

    if not os.path.exists(text):
        if "," not in text:
            raise NotFoundError(f"no such file: {text!r}; --labels takes a file, or names as a,b,c")
        labels = [part.strip() for part in text.split(",")]
    else:
        data = read_regular_file(text, "labels", MAX_BYTES)
        try:
            content = data.decode("utf-8")
            if content.lstrip()[:1] == "[":
                labels = conform(list[str], parse_json(content))
            else:
                labels = [line.strip() for line in content.splitlines() if line.strip()]
        except ValueError:
            labels = []
    if not labels or not all(labels):
        raise ConfigError(
            f"{text[:100]!r} is no list of class names; expected one a line, a JSON list of texts, "
            "or a,b,c",
            code="labels",
        )
    return tuple(labels)


def json_or_text(text: str) -> Any:
    """The value of a ``KEY=VALUE`` argument: JSON where it is JSON, else the text itself.

    Lists become tuples, as constructors take them.
    """
    try:
        value = parse_json(text)
    except ValueError:
        return text
    return tuple(value) if isinstance(value, list) else value


class ImageSize(click.ParamType):
    """H or H,W in pixels."""

    name = "H[,W]"

    def __init__(self, least: int = 1) -> None:
        self.least = least

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        try:
            height, _, width = value.partition(",")
            size = int(height), int(width or height)
        except ValueError:
            size = (0, 0)
        if min(size) < self.least:
            self.fail(
                f"expected one or two sizes of at least {self.least} pixels, as 224 or 192,256; "
                f"got {value!r}"
            )
        return size
