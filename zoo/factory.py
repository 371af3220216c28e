"""create_model: record + overrides -> a checked constructor call -> `nn.Module` in training
mode.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .arguments import check_arguments
from .errors import ConfigError, NoWeightsError
from .files import read_regular_file, sha256_bytes
from .labels import read_labels
from .pretrained import PretrainedCfg
from .records import InputSpec, ModelRecord, WeightsRecord
from .registry import get_record

if TYPE_CHECKING:
    import torch
    from torch import nn


def create_model(name: str, pretrained: bool = False, **overrides: Any) -> nn.Module:
    """Build a model of the zoo, in training mode.

    Args:
        name: a model reference: ``ARCH[.TAG][@X.Y.Z]``, a directory that training, import or export
            wrote, ``hf-hub:org/name[@revision]``, or ``timm:NAME``. ARCH may be an original's name
            such as ``hdvw:resnet_mcdo_50``: it brings the original's defaults (10 classes, the stem
            for small images) and takes the original's keywords too.
        pretrained: load weights: those that the tag and version pick, by default the newest of the
            first tag. Verified by SHA-256 and loaded strictly.
            Nothing is drawn from the global random generator, unless for a new classifier.
        overrides: constructor keywords, e.g. ``num_classes``, ``in_chans``, ``img_size``,
            ``drop_path_rate``. With `pretrained`, another ``num_classes`` starts a new classifier,
            another ``in_chans`` sums or repeats the first convolution over channels, and another
            ``img_size`` resamples the position embedding, as timm does; nothing else may differ.
            ``features_only=True`` returns a list of maps, ``out_indices`` says which
            (`zoo.features`).
    Returns: the model; ``model.pretrained_cfg`` says what it is (`PretrainedCfg`, frozen).
    Raises:
        UnknownModelError: unknown name, tag or version; the nearest ones are named.
        ConfigError: an unknown or impossible keyword.
        NoWeightsError: `pretrained` and there are no weights to load.
        IntegrityError, WeightsMismatchError, IncompatibleWeightsError: see `zoo.weights`.
    Example:
        >>> model = zoo.create_model("convit_nano", pretrained=True).eval()
        >>> model(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 10])
    """
    from . import references

    if not name.startswith("timm:") and overrides.keys() & {"features_only", "out_indices"}:
        from .features import create_features

        return create_features(name, pretrained, overrides)
    if not references.is_registry_name(name):
        return references.create_from_reference(name, pretrained, overrides)
    record = get_record(name)
    overrides = record.own_keywords(overrides)
    if not pretrained:
        return build(record, overrides)
    if record.selected is None and record.checkpoint is not None:
        raise NoWeightsError(record.checkpoint.how_to_import, code="import_first")
    if record.selected is None:
        raise NoWeightsError(_no_weights(record))
    return build_with_weights(record, record.selected, overrides)


def build(record: ModelRecord, overrides: Mapping[str, Any]) -> nn.Module:
    """A randomly initialised model. Raises: ConfigError."""
    config = {**record.config, **overrides}
    model = construct(record.family.builder, config)
    model.pretrained_cfg = PretrainedCfg(
        architecture=record.name,
        architecture_version=record.family.version,
        num_classes=model.num_classes,
        input=_input_of(record.input, config),
        labels=() if "num_classes" in overrides else read_labels(record.labels),
        licence=record.family.licence.weights,
        model_args={**record.alias_config, **overrides},
    )
    return model


def build_with_weights(
    record: ModelRecord, weights: WeightsRecord, overrides: Mapping[str, Any]
) -> nn.Module:
    """A model with the weights of a record, adapted to `overrides` as `create_model` describes."""
    from .loading import construct_loaded
    from .weights import check_architecture, fetch, read_tensors

    check_architecture(weights, record)
    trained = {**weights.overrides}
    overrides = at_training_size(record, trained, overrides)
    config = {**record.config, **trained, **overrides}
    digest = weights.sha256

    def read() -> dict[str, torch.Tensor]:
        nonlocal digest
        data = fetch(weights)
        digest = digest or sha256_bytes(data)
        return read_tensors(data, weights.name)

    model, unchanged = construct_loaded(
        lambda: construct(record.family.builder, config), read, weights.name, adapt=bool(overrides)
    )
    same_classes = model.num_classes == {**record.config, **trained}.get("num_classes", 1000)
    model.pretrained_cfg = PretrainedCfg(
        architecture=record.name,
        architecture_version=record.family.version,
        tag=weights.tag,
        version=weights.version,
        sha256=digest if unchanged else "",
        num_classes=model.num_classes,
        input=_input_of(weights.input or record.input, config),
        labels=read_labels(weights.labels) if same_classes else (),
        licence=weights.licence or record.family.licence.weights,
        model_args={**record.alias_config, **trained, **overrides},
    )
    return model


def at_training_size(
    record: ModelRecord, trained: Mapping[str, Any], overrides: Mapping[str, Any]
) -> Mapping[str, Any]:
    """`overrides`; with another image size, also the one of the weights, for models that ask.

    ConViT's reach refers to it under ``position_scaling="image"``.
    """
    asks = "base_img_size" in inspect.signature(find_class(record.family.builder)).parameters
    if not asks or "img_size" not in overrides or "base_img_size" in trained:
        return overrides
    size = {**record.config, **trained}.get("img_size", record.input.size)
    return {"base_img_size": size, **overrides}


def create_random(name: str, seed: int, **overrides: Any) -> nn.Module:
    """A randomly initialised model whose every label says so: its tag is "random".

    The same seed gives the same weights on one version of torch; the global generator is untouched.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = create_model(name, **overrides)
    return _tagged(model, "random")


def create_from_file(name: str, file: str, **overrides: Any) -> nn.Module:
    """A model with the weights of a safetensors file, loaded strictly; its tag is "custom".

    Raises: WeightsFileError, WeightsMismatchError, IntegrityError, ResourceError.
    """
    from .loading import construct_loaded
    from .references import is_registry_name
    from .weights import load_state, read_tensors

    data = read_regular_file(file, "weights file")
    tensors = read_tensors(data, file)
    make = functools.partial(create_model, name, **overrides)
    if is_registry_name(name):
        model, _ = construct_loaded(make, lambda: tensors, file, adapt=False)
    else:  # the constructors of others may need values
        model = make()
        load_state(model, tensors, file)
    return _tagged(model, "custom", sha256_bytes(data))


def _tagged(model: nn.Module, tag: str, sha256: str = "") -> nn.Module:
    model.pretrained_cfg = replace(model.pretrained_cfg, tag=tag, sha256=sha256)
    return model


def _no_weights(record: ModelRecord) -> str:
    tags = ", ".join(record.tags) or "none"
    return (
        f"{record.name} has no weights to load (tags: {tags}); train some with "
        f"`convattn train {record.name} --data digits --out run/`, or pass pretrained=False"
    )


def _input_of(spec: InputSpec, config: Mapping[str, Any]) -> InputSpec:
    """The input spec after overrides of the image size and the channels."""
    size = config.get("img_size", spec.size)
    size = (size, size) if isinstance(size, int) else tuple(size)
    chans = config.get("in_chans", spec.in_chans)
    if chans == spec.in_chans:
        return replace(spec, size=size)
    grey = lambda values: (sum(values) / len(values),) * chans  # noqa: E731
    return replace(spec, size=size, in_chans=chans, mean=grey(spec.mean), std=grey(spec.std))


@functools.cache
def find_class(builder: str) -> type[nn.Module]:
    """``"module:Class"`` inside `zoo.models` -> the class, imported relatively."""
    module, _, name = builder.partition(":")
    return getattr(importlib.import_module(f".models.{module}", __package__), name)


def construct(builder: str, config: Mapping[str, Any]) -> nn.Module:
    """Call a model's constructor with checked keywords.

    Raises: ConfigError that names the nearest keyword or what a keyword takes (`zoo.arguments`), or
        repeats what the constructor objected to.
    """
    cls = find_class(builder)
    check_arguments(cls, config)
    try:
        return cls(**config)
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise ConfigError(f"{cls.__name__} cannot be built: {error}") from error


def state_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Shapes of the state dict by key."""
    return {key: value.shape for key, value in model.state_dict().items()}
