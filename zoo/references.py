"""Model references other than registry names: directories, hf-hub:, timm:, and single exported
files.

``ARCH[.TAG][@X.Y.Z]`` | a directory written by train, import or export |
``hf-hub:org/name[@revision]`` | ``timm:NAME`` | for prediction and verification also a single
.onnx, .pt or .pt2 file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, NoWeightsError, UnknownModelError
from .files import read_regular_file, sha256_bytes
from .pretrained import TIMM_PREFIX, PretrainedCfg
from .records import InputSpec, ModelRecord

if TYPE_CHECKING:
    from torch import nn

ARTEFACT_SUFFIXES = (".onnx", ".pt", ".pt2")


def is_artefact(reference: str) -> bool:
    """Whether a reference names a single exported file."""
    return reference.endswith(ARTEFACT_SUFFIXES)


def is_registry_name(reference: str) -> bool:
    """Whether a reference is ``ARCH[.TAG][@X.Y.Z]`` rather than a place."""
    if reference.startswith(("hf-hub:", "timm:")) or is_artefact(reference):
        return False
    return not (os.sep in reference or "/" in reference or os.path.isdir(reference))


def create_from_reference(name: str, pretrained: bool, overrides: Mapping[str, Any]) -> nn.Module:
    """Build the model that a non-registry reference names. Errors as `zoo.create_model`."""
    if name.startswith("timm:"):
        from .timm_models import create_from_timm

        return create_from_timm(name, pretrained, overrides)
    if name.startswith("hf-hub:"):
        from .hub_models import create_from_hub

        return create_from_hub(name.removeprefix("hf-hub:"), pretrained, overrides)
    if is_artefact(name):
        raise ConfigError(
            f"{name!r} is an exported file: predict and verify take it, create_model needs a model "
            "name or a directory with config.json and model.safetensors"
        )
    return _from_directory(name, pretrained, overrides)


def read_directory_config(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """config.json of a run, import or export directory. Raises: UnknownModelError, ConfigError."""
    path = Path(directory) / "config.json"
    if not path.is_file():
        raise UnknownModelError(
            f"{os.fspath(directory)!r} is not a model directory: it has no config.json; "
            "pass a directory that train, import or export wrote, or a name from `convattn list`"
        )
    return parse_config(read_regular_file(path, "config.json"), str(path))


def parse_config(data: bytes, what: str) -> dict[str, Any]:
    """Parse a timm-format config.json. Raises: ConfigError."""
    try:
        config = json.loads(data)
    except ValueError as error:
        raise ConfigError(
            f"{what} is not JSON ({error}); write the directory again", code="config_json"
        ) from None
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise ConfigError(
            f"{what} does not name an architecture; it must be an object with that key",
            code="config_json",
        )
    return config


def config_architecture(architecture: str) -> str:
    """Our model name for the `architecture` of a config.json."""
    return architecture.removeprefix(TIMM_PREFIX)


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
        "num_features": model.num_features,
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


def _ends(model: nn.Module) -> dict[str, str]:
    """Names of the first convolution and the classifier: timm adapts another number of channels or
    classes there.
    """
    from torch import nn

    modules = list(model.named_modules())
    convolutions = (name for name, module in modules if isinstance(module, nn.Conv2d))
    head = model.get_classifier() if hasattr(model, "get_classifier") else None
    heads = (name for name, module in modules if module is head)
    found = {"first_conv": next(convolutions, ""), "classifier": next(heads, "")}
    return {key: name for key, name in found.items() if name}


def _trained_arguments(config: Mapping[str, Any], record: ModelRecord) -> dict[str, Any]:
    """Constructor keywords that differ from the registered model's, by a config.json."""
    trained: dict[str, Any] = {**config.get("model_args", {})}
    if "convattn" not in config and trained.get("global_pool") == "token":
        del trained["global_pool"]  # timm writes it; ConViT has no other way to pool
    classes = config.get("num_classes")
    if classes is not None and classes != record.config.get("num_classes", 1000):
        trained["num_classes"] = classes
    return {key: tuple(v) if isinstance(v, list) else v for key, v in trained.items()}


def build_from_config(
    config: Mapping[str, Any],
    weights: bytes | None,
    what: str,
    overrides: Mapping[str, Any],
    digest: str = "",
) -> nn.Module:
    """The model of a config.json, with its weights if `weights` is given.

    Args:
        config: as `parse_config` returns it.
        weights: a safetensors file.
        what: what error messages call it.
        overrides: constructor keywords, as `zoo.create_model` takes them.
        digest: SHA-256 of `weights`, if it was computed before.
    Raises: UnknownModelError; ConfigError for keywords or another version of the architecture;
        WeightsFileError, IntegrityError, WeightsMismatchError.
    """
    from . import factory
    from .loading import construct_loaded
    from .registry import get_record
    from .weights import read_tensors

    own = config.get("convattn", {})
    architecture = own.get("architecture") or config_architecture(config["architecture"])
    if architecture.startswith("timm:"):
        from .timm_models import create_from_timm_config

        return create_from_timm_config(architecture, config, weights, what, overrides)
    record: ModelRecord = get_record(architecture)
    _check_version(record, own, what)
    trained = _trained_arguments(config, record)
    origin = dict.fromkeys(("tag", "version", "sha256"), "")
    if weights is None:
        model = factory.build(record, {**trained, **overrides})
    else:
        overrides = factory.at_training_size(record, trained, overrides)
        model, unchanged = construct_loaded(
            lambda: factory.build(record, {**trained, **overrides}),
            lambda: read_tensors(weights, what),
            what,
            adapt=bool(overrides),
        )
        origin = {key: own.get(key, "") for key in ("tag", "version")}
        origin["sha256"] = (digest or sha256_bytes(weights)) if unchanged else ""
    cfg = _restored_cfg(model.pretrained_cfg, config, overrides)
    model.pretrained_cfg = replace(cfg, **origin)
    return model


def _check_version(record: ModelRecord, own: Mapping[str, Any], what: str) -> None:
    version = own.get("architecture_version", record.family.version)
    if version != record.family.version:
        raise ConfigError(
            f"{what} was made for version {version} of {record.family.name}; this is version "
            f"{record.family.version}: use the convattn-zoo that wrote it, or write it again",
            code="incompatible_weights",
        )


def _restored_cfg(
    cfg: PretrainedCfg, config: Mapping[str, Any], overrides: Mapping[str, Any]
) -> PretrainedCfg:
    """`cfg` of the model just built, with the labels, licence and input of its config.json."""
    spec = InputSpec.from_dict({**cfg.input.to_dict(), **config.get("pretrained_cfg", {})})
    if overrides:
        spec = replace(spec, size=cfg.input.size)
    return replace(
        cfg,
        labels=() if "num_classes" in overrides else tuple(config.get("label_names") or ()),
        licence=config.get("convattn", {}).get("licence") or cfg.licence,
        input=spec if cfg.input.in_chans == spec.in_chans else cfg.input,
    )


def _from_directory(path: str, pretrained: bool, overrides: Mapping[str, Any]) -> nn.Module:
    if not os.path.isdir(path):
        raise UnknownModelError(
            f"{path!r} is neither a model name nor a directory; `convattn list` shows the names"
        )
    config = read_directory_config(path)
    weights, digest = None, ""
    if pretrained:
        weights = read_directory_weights(path, config)
        digest = config.get("convattn", {}).get("weights_sha256") or ""
    return build_from_config(config, weights, f"{path}/model.safetensors", overrides, digest)


def read_directory_weights(path: str | os.PathLike[str], config: Mapping[str, Any]) -> bytes:
    """model.safetensors of a directory, checked against the digest in its config.json.

    Raises: NoWeightsError, IntegrityError, ResourceError.
    """
    from .errors import IntegrityError

    file = Path(path) / "model.safetensors"
    if not file.exists():
        raise NoWeightsError(
            f"{os.fspath(path)!r} has no model.safetensors to load; pass pretrained=False for its "
            "architecture alone"
        )
    data = read_regular_file(file, "weights file")
    expected = config.get("convattn", {}).get("weights_sha256")
    if expected and sha256_bytes(data) != expected:
        from .weights import read_header

        read_header(data, str(file))  # says if the file is cut short or of another kind
        raise IntegrityError(
            f"{file} has SHA-256 {sha256_bytes(data)}, its config.json says {expected}; "
            "restore the directory or write it again",
            code="hash",
        )
    return data
