"""Image classifiers of transformers: ``hf:DIR``, a directory that `save_pretrained` wrote.

Code that lies in such a directory is never run. The model returns its logits alone.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from ..catalog.checked_json import Document
from ..catalog.weights_records import InputSpec
from ..errors import (
    ConfigError,
    MissingDependencyError,
    NoWeightsError,
    UnknownModelError,
    WeightsMismatchError,
)
from ..files.listed import read_document, read_listed
from .building import Blueprint, input_of
from .config_json import check_numbers
from .description import PretrainedCfg

if TYPE_CHECKING:
    from torch import nn


class _Sides(TypedDict, total=False):
    shortest_edge: int
    height: int
    width: int


class _Processor(TypedDict, total=False):
    size: int | _Sides | None
    crop_size: int | _Sides | None
    do_center_crop: bool | None
    do_normalize: bool | None
    image_mean: list[float]
    image_std: list[float]
    resample: int


PROCESSOR = Document(_Processor, "configuration of an image processor", "config_json")
CONFIGURATION = Document(dict[str, Any], "configuration of transformers", "config_json")
_WEIGHTS = "model.safetensors"
_FILTERS = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
# of a config: where and when it was written, not what the model is
_NOT_THE_MODEL = (
    "_name_or_path",
    "model_type",
    "transformers_version",
    "dtype",
    "torch_dtype",
)


def of_transformers(reference: str, pretrained: bool, overrides: Mapping[str, Any]) -> Blueprint:
    """The blueprint of ``hf:DIR``. Errors as `zoo.create_model`."""
    transformers = _transformers(reference)
    folder = reference.removeprefix("hf:")
    if not os.path.isfile(os.path.join(folder, "config.json")):
        raise UnknownModelError(
            f"{folder!r} is no directory with a config.json; `hf download ORG/NAME --local-dir "
            f"{folder}` makes one, and so does save_pretrained"
        )
    check_numbers(read_document(CONFIGURATION, os.path.join(folder, "config.json")))
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ConfigError(f"transformers cannot read {folder}/config.json: {error}"[:300]) from None
    saved = copy.deepcopy(config)
    plan = _blueprint(config, overrides)
    labels = tuple(str(config.id2label[i]) for i in sorted(config.id2label or {}))
    generic = all(label == f"LABEL_{i}" for i, label in enumerate(labels))
    described = replace(
        plan.described,
        input=input_of(_input_of(folder, plan.described.input), overrides),
        labels=() if generic or "num_classes" in overrides else labels,
    )
    plan = replace(plan, described=described, stated=True)
    if not pretrained:
        return plan
    file = os.path.join(folder, _WEIGHTS)
    if not os.path.isfile(file):
        raise NoWeightsError(
            f"{folder!r} has no {_WEIGHTS}; load it with transformers and write it again with "
            "save_pretrained(DIR, max_shard_size='100GB')"
        )
    return replace(
        plan,
        described=replace(described, tag="own"),
        read=lambda: read_listed(file, "weights file"),
        what=file,
        translate=lambda tensors: _translated(saved, tensors, file),
        adapt=bool(overrides),
    )


def of_stored_transformers(
    architecture: str, pretrained: bool, overrides: Mapping[str, Any]
) -> Blueprint:
    """The blueprint of ``hf:TYPE`` with the whole configuration as keywords, as we store it."""
    transformers, kind = _transformers(architecture), architecture.removeprefix("hf:")
    keywords = {k: list(v) if isinstance(v, tuple) else v for k, v in overrides.items()}
    changed = {k: keywords.pop(k) for k in ("num_classes", "img_size") if k in keywords}
    try:
        config = transformers.AutoConfig.for_model(kind, **keywords)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"transformers has no model of type {kind!r}: {error}"[:300]) from None
    return _blueprint(config, changed)


def _translated(config: Any, tensors: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Tensors of a file under the names that this version of transformers has for them.

    Raises: WeightsMismatchError.
    """
    import torch
    import transformers

    with torch.device("meta"):
        kind = type(transformers.AutoModelForImageClassification.from_config(config))
    with _silent():
        model, info = kind.from_pretrained(
            None, config=config, state_dict=dict(tensors), output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    wrong = sorted(str(entry) for entry in info["mismatched_keys"])
    if missing or unexpected or wrong:
        raise WeightsMismatchError.between(what, missing, unexpected, wrong)
    found: dict[str, Any] = model.state_dict()
    return found


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without notes and progress bars of transformers."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _transformers(reference: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise MissingDependencyError(
            f"{reference!r} needs transformers; pip install transformers"
        ) from None
    return transformers


def _blueprint(config: Any, overrides: Mapping[str, Any]) -> Blueprint:
    """An image classifier of a configuration, with random weights."""
    keywords = dict(overrides)
    classes = keywords.pop("num_classes", None)
    if classes:
        config.num_labels = classes
    if "img_size" in keywords:
        keywords["image_size"] = keywords.pop("img_size")
    for key, value in keywords.items():
        if not hasattr(config, key):
            raise ConfigError(
                f"{type(config).__name__} has no setting {key!r}", code="unknown_argument"
            )
        setattr(config, key, value)
    side = getattr(config, "image_size", 224)
    size = (side, side) if isinstance(side, int) else tuple(side)
    stated = json.loads(json.dumps(config.to_diff_dict(), default=str))
    described = PretrainedCfg(
        architecture=f"hf:{config.model_type}",
        architecture_version=1,
        num_classes=config.num_labels,
        input=InputSpec(size=size, mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0),
        model_args={k: v for k, v in stated.items() if k not in _NOT_THE_MODEL},
    )
    plan = Blueprint(described=described, construct=lambda: _construct(config))
    return plan.without_classifier() if classes == 0 else plan


def _construct(config: Any) -> nn.Module:
    import transformers

    model = transformers.AutoModelForImageClassification.from_config(config)
    plain = type(model)

    def forward(self: Any, pixel_values: Any) -> Any:
        """Images (B, C, H, W) -> logits (B, classes)."""
        return plain.forward(self, pixel_values).logits

    model.__class__ = type(plain.__name__, (plain,), {"forward": forward})
    model.num_classes = config.num_labels
    found: nn.Module = model.train()
    return found


def _input_of(folder: str, usual: InputSpec) -> InputSpec:
    """The preprocessing in a preprocessor_config.json; `usual` without one. Raises: ConfigError."""
    path = os.path.join(folder, "preprocessor_config.json")
    if not os.path.isfile(path):
        return usual
    said = read_document(PROCESSOR, path)
    resized = _size(said.get("size"), usual.size)
    crop = _size(said.get("crop_size"), resized) if said.get("do_center_crop") else resized
    normal = said.get("do_normalize", True)
    kind, mean, std = said.get("resample", 2), said.get("image_mean"), said.get("image_std")
    if kind not in _FILTERS or min(*resized, *crop) < 1 or (normal and not (mean and std)):
        raise PROCESSOR.refusal(path, "size, resample, image_mean or image_std is missing or wrong")
    return replace(
        usual,
        size=crop,
        mean=tuple(mean or ()) if normal else (0.0,) * usual.in_chans,
        std=tuple(std or ()) if normal else (1.0,) * usual.in_chans,
        interpolation=_FILTERS[kind],
        crop_pct=min(1.0, crop[0] / resized[0]),
    )


def _size(said: int | _Sides | None, usual: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a processor's size: a number, a shortest edge, or both sides."""
    if said is None:
        return usual
    if isinstance(said, int):
        return said, said
    edge = said.get("shortest_edge", 0)
    return said.get("height", edge), said.get("width", edge)
