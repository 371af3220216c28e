"""What an exported file says of itself, and who wrote it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo import __version__
from zoo.catalog.checked_json import Document
from zoo.catalog.weights_records import InputSpec
from zoo.errors import ConfigError
from zoo.factory.description import PretrainedCfg
from zoo.files.provenance import package_versions

from ..spec import OUTPUT_NAME, ExportSpec
from .axes import Axes, at_size

if TYPE_CHECKING:
    from torch import nn


METADATA = Document(dict[str, str], "metadata of an export", "metadata", "export again")


def describe(model: nn.Module, input: InputSpec | None = None) -> PretrainedCfg:
    """What an export says about a model: its `pretrained_cfg`, or an anonymous one for `input`.

    Args: input: replaces the model's own preprocessing, e.g. to export at another image size.
    Raises: ConfigError if the model has none and no `input` is given.
    """
    cfg = PretrainedCfg.of(model)
    if cfg is not None:
        return cfg if input is None else replace(cfg, input=input)
    if input is None:
        raise ConfigError(
            f"{type(model).__name__} does not say what its input is; pass input=InputSpec(size=...)"
        )
    return PretrainedCfg(architecture="", architecture_version=0, num_classes=0, input=input)


def describe_for(model: nn.Module, spec: ExportSpec, input: InputSpec | None) -> PretrainedCfg:
    """`describe`, at the image size that the spec asks for.

    Raises: ConfigError also if `input` says another one.
    """
    if input is not None and spec.img_size not in (None, input.size):
        raise ConfigError(
            f"the spec asks for images of {spec.img_size} and the input for {input.size} (height, "
            "width); name the size once, or the same one"
        )
    cfg = describe(model, input)
    return cfg if spec.img_size is None else replace(cfg, input=at_size(cfg.input, spec.img_size))


def metadata_of(
    cfg: PretrainedCfg,
    spec: ExportSpec,
    axes: Axes | None = None,
    outputs: Sequence[str] = (OUTPUT_NAME,),
    precision: str = "float32",
) -> dict[str, str]:
    """Key-value pairs that travel inside an exported file; structured ones are JSON.

    "batch_dependent" stands in dynamic int8 files ("int8"): they measure one range for a whole
    batch, so that an image's answer depends on the images beside it.
    """
    versions = package_versions()
    axes = axes or Axes(cfg.input.size)
    by_pixels = {"size_stride": str(axes.stride), "size_least": str(axes.least)}
    return {
        "name": cfg.name,
        "version": cfg.version,
        "architecture": cfg.architecture,
        "architecture_version": str(cfg.architecture_version),
        "weights_sha256": cfg.sha256,
        "input": json.dumps(cfg.input.to_dict()),
        "size_multiple": str(axes.multiple),
        **(by_pixels if axes.multiple == 1 else {}),
        "outputs": json.dumps(list(outputs)),
        "precision": precision,
        **({"batch_dependent": "true"} if precision == "int8" else {}),
        "labels": json.dumps(list(cfg.labels), ensure_ascii=False),
        "licence": cfg.licence,
        "opset": str(spec.opset),
        "exporter": f"convattn-zoo {__version__}, torch {versions.get('torch', '')}, "
        f"onnxscript {versions.get('onnxscript', '')}",
    }
