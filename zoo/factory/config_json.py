"""config.json of the directories that train, import, export and bundle write."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from ..catalog.checked_json import Document
from ..catalog.records import ModelRecord
from ..catalog.references import is_registered
from ..catalog.weights_records import InputFields, InputSpec
from ..errors import ConfigError
from ..files.places import CONFIG, Directory, Repository
from ..weights.classifier import classifier_name
from .description import TIMM_PREFIX, PretrainedCfg

if TYPE_CHECKING:
    from torch import nn


class _Own(TypedDict, total=False):
    architecture: str
    architecture_version: int
    name: str
    family: str
    tag: str
    version: str
    weights_sha256: str
    licence: str
    labels: str
    digests: dict[str, str]


class _Named(TypedDict):
    architecture: str


class Config(_Named, total=False):
    """What a config.json holds: timm's keys, and ours under "convattn"."""

    num_classes: int
    model_args: dict[str, Any]
    label_names: list[str] | None
    pretrained_cfg: InputFields
    convattn: _Own


_log = logging.getLogger(__name__)
_MOST = {int: 1_000_000, float: 1e9}
DOCUMENT = Document(Config, "config.json of a model", "config_json", "write the directory again")


def read_config(place: Directory | Repository) -> dict[str, Any]:
    """The config.json of a directory or repository. Raises: ConfigError; as its `read`."""
    return parse_config(place.read(CONFIG), place.name_of(CONFIG))


def parse_config(data: bytes, what: str) -> dict[str, Any]:
    """Parse a timm-format config.json. Raises: ConfigError."""
    config = dict(DOCUMENT.parse(data, what))
    return config if "convattn" in config else dict(DOCUMENT.check(_of_timm(config), what))


def _of_timm(config: Mapping[str, Any]) -> dict[str, Any]:
    """What timm wrote, now or years ago, with every fact at the place where timm puts it today: it
    reads class names, number of classes, channels and size of images at several.
    """
    said: Mapping[str, Any] = config.get("pretrained_cfg", config)
    size = said.get("input_size") or (3,)
    arguments = {
        **({"in_chans": size[0]} if size[0] != 3 else {}),
        **({"img_size": size[1:]} if said.get("fixed_input_size") else {}),
    }
    names = config.get("labels") or config.get("label_names") or said.get("label_names")
    return {
        **{key: said[key] for key in ("num_classes",) if said.get(key) is not None},
        **config,
        "label_names": names,
        "model_args": {**arguments, **config.get("model_args", {})},
        "pretrained_cfg": said,
    }


def say_crop_mode(said: Mapping[str, Any], what: str) -> None:
    """Warn in the log of a way to crop that timm has and we have not."""
    mode = said.get("crop_mode") or "center"
    if mode != "center":
        _log.warning(
            f"{what} asks for crop_mode {str(mode)[:40]!r}, which is not known here: images are "
            "cut at the centre, so that answers about images that are not square differ"
        )


def architecture_of(config: Mapping[str, Any]) -> str:
    """Our name for the architecture of a config.json: of the registry, or with its prefix; one that
    only timm knows is timm's.
    """
    own: str = config.get("convattn", {}).get("architecture") or ""
    name = str(config["architecture"])
    if own or ":" in name or name.startswith(TIMM_PREFIX) or is_registered(name):
        return own or name.removeprefix(TIMM_PREFIX)
    return f"timm:{name}"


def build_config(model: nn.Module, weights_sha256: str = "") -> dict[str, Any]:
    """The config.json of a model: timm's format, with what only we know under "convattn".

    Raises: ConfigError for a model that the registry did not build.
    """
    cfg = PretrainedCfg.of(model)
    if cfg is None or not cfg.architecture:
        raise ConfigError(
            f"{type(model).__name__} was not built by zoo.create_model, so no config.json can name "
            f"it"
        )
    spec = cfg.input.to_dict()
    return {
        "architecture": cfg.timm_name,
        "num_classes": cfg.num_classes,
        **_width(model),
        "model_args": {key: value for key, value in cfg.model_args.items() if key != "num_classes"},
        **({"label_names": list(cfg.labels)} if cfg.labels else {}),
        "pretrained_cfg": {
            "tag": cfg.tag,
            "custom_load": False,
            **spec,
            "fixed_input_size": False,
            "crop_mode": "center",
            "num_classes": cfg.num_classes,
            **_ends(model),
            "license": cfg.licence.lower(),
        },
        "convattn": {
            "architecture": cfg.architecture,
            "architecture_version": cfg.architecture_version,
            "tag": cfg.tag,
            "version": cfg.version,
            "weights_sha256": weights_sha256 or cfg.sha256,
            "licence": cfg.licence,
        },
    }


def _width(model: nn.Module) -> dict[str, int]:
    """How many features the classifier reads, if that is known."""
    name = classifier_name(model)
    head = model.get_submodule(name) if name else None
    width = getattr(model, "num_features", None) or getattr(head, "in_features", None)
    return {"num_features": width} if isinstance(width, int) else {}


def _ends(model: nn.Module) -> dict[str, str]:
    """Names of the first convolution and the classifier: timm adapts another number of channels or
    classes there.
    """
    from torch import nn

    modules = list(model.named_modules())
    convolutions = (name for name, module in modules if isinstance(module, nn.Conv2d))
    found = {"first_conv": next(convolutions, ""), "classifier": classifier_name(model)}
    return {key: name for key, name in found.items() if name}


def trained_arguments(config: Mapping[str, Any], record: ModelRecord | None) -> dict[str, Any]:
    """Constructor keywords by a config.json: those that differ from the registered model's."""
    trained: dict[str, Any] = {**config.get("model_args", {})}
    theirs = record is not None and "convattn" not in config
    if theirs and trained.get("global_pool") == "token":
        del trained["global_pool"]  # timm writes it; ConViT has no other way to pool
    classes = config.get("num_classes")
    usual = None if record is None else record.config.get("num_classes", 1000)
    if classes is not None and classes != usual:
        trained["num_classes"] = classes
    check_numbers(trained)
    return {key: tuple(v) if isinstance(v, list) else v for key, v in trained.items()}


def check_numbers(arguments: Mapping[str, Any]) -> None:
    """Raises: ConfigError for a number that no model has, before anything is built with it."""
    for key, value in arguments.items():
        for number in _leaves(value):
            most = _MOST.get(type(number))
            if most and not abs(number) <= most:
                raise ConfigError(
                    f"config.json says {key[:80]}={number}; no model has numbers beyond {most}. "
                    "Write the directory again",
                    code="config_json",
                )


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)
    else:
        yield value


def check_version(record: ModelRecord, config: Mapping[str, Any], what: str) -> None:
    """Raises: ConfigError for a config.json of another version of the architecture."""
    own = config.get("convattn", {})
    version = own.get("architecture_version", record.family.version)
    if version != record.family.version:
        raise ConfigError(
            f"{what} was made for version {version} of {record.family.name}; this is version "
            f"{record.family.version}: use the convattn-zoo that wrote it, or write it again",
            code="incompatible_weights",
        )


def restored_cfg(
    cfg: PretrainedCfg, config: Mapping[str, Any], overrides: Mapping[str, Any]
) -> PretrainedCfg:
    """`cfg` of the model just built, with the labels, licence and input of its config.json.

    Weights that somebody else made are under the licence that he states, not under upstream's.
    """
    own, said = config.get("convattn"), config.get("pretrained_cfg", {})
    say_crop_mode(said, f"the config.json of {cfg.architecture}")
    spec = InputSpec.from_dict({**cfg.input.to_dict(), **said})
    if "img_size" in overrides:
        spec = replace(spec, size=cfg.input.size)
    return replace(
        cfg,
        labels=() if "num_classes" in overrides else stated_labels(config, cfg.num_classes),
        licence=str(said.get("license") or "") if own is None else own.get("licence", cfg.licence),
        input=spec if cfg.input.in_chans == spec.in_chans else cfg.input,
    )


def stated_labels(config: Mapping[str, Any], classes: int) -> tuple[str, ...]:
    """Class names of a config.json. Raises: ConfigError unless there are none, or one per class."""
    labels = tuple(config.get("label_names") or ())
    if labels and classes and len(labels) != classes:
        text = f"config.json has {len(labels)} label_names for {classes} classes"
        raise ConfigError(f"{text}; write the directory again", code="config_json")
    return labels
