"""config.json of the directories that train, import, export and bundle write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from ..catalog.checked_json import Document
from ..catalog.records import ModelRecord
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


_MOST = {int: 1_000_000, float: 1e9}
DOCUMENT = Document(Config, "config.json of a model", "config_json", "write the directory again")


def read_config(place: Directory | Repository) -> dict[str, Any]:
    """The config.json of a directory or repository. Raises: ConfigError; as its `read`."""
    return parse_config(place.read(CONFIG), place.name_of(CONFIG))


def parse_config(data: bytes, what: str) -> dict[str, Any]:
    """Parse a timm-format config.json. Raises: ConfigError."""
    return dict(DOCUMENT.parse(data, what))


def architecture_of(config: Mapping[str, Any]) -> str:
    """Our name for the architecture of a config.json: of the registry, or with its prefix."""
    own: str = config.get("convattn", {}).get("architecture") or ""
    return own or str(config["architecture"]).removeprefix(TIMM_PREFIX)


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
    if "convattn" not in config and trained.get("global_pool") == "token":
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
    """`cfg` of the model just built, with the labels, licence and input of its config.json."""
    spec = InputSpec.from_dict({**cfg.input.to_dict(), **config.get("pretrained_cfg", {})})
    if "img_size" in overrides:
        spec = replace(spec, size=cfg.input.size)
    return replace(
        cfg,
        labels=() if "num_classes" in overrides else stated_labels(config, cfg.num_classes),
        licence=config.get("convattn", {}).get("licence") or cfg.licence,
        input=spec if cfg.input.in_chans == spec.in_chans else cfg.input,
    )


def stated_labels(config: Mapping[str, Any], classes: int) -> tuple[str, ...]:
    """Class names of a config.json. Raises: ConfigError unless there are none, or one per class."""
    labels = tuple(config.get("label_names") or ())
    if labels and classes and len(labels) != classes:
        text = f"config.json has {len(labels)} label_names for {classes} classes"
        raise ConfigError(f"{text}; write the directory again", code="config_json")
    return labels
