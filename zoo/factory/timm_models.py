"""Models that timm builds: ``timm:NAME``, with timm's weights loaded as ours are."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..catalog.registry import timm_checkpoints
from ..catalog.tables import read_labels
from ..catalog.weights_records import InputSpec
from ..errors import NoWeightsError, UnknownModelError, suggestion
from ..files.download import download_verified
from ..files.fetch import pin_on_first_use
from .building import Blueprint, construct_at, input_of
from .config_json import say_crop_mode
from .description import PretrainedCfg

if TYPE_CHECKING:
    from torch import nn


def of_timm(reference: str, pretrained: bool, overrides: Mapping[str, Any]) -> Blueprint:
    """The blueprint of ``timm:NAME``. Errors as `zoo.create_model`."""
    import timm

    known = next((c for c in timm_checkpoints() if c.name == reference), None)
    if known is not None:
        if pretrained:
            raise NoWeightsError(known.how_to_import, code="import_first")
        return of_timm(known.model, False, {**known.overrides, **overrides})
    name = reference.removeprefix("timm:")
    if not timm.is_model(name):
        raise UnknownModelError(
            f"timm {timm.__version__} has no model {name!r}{suggestion(name, timm.list_models())}; "
            "timm.list_models() lists all"
        )
    said = timm.get_pretrained_cfg(name).to_dict()
    spec = InputSpec.from_dict(timm.data.resolve_data_config(pretrained_cfg=said))
    say_crop_mode(said, reference)
    described = PretrainedCfg(
        architecture=reference,
        architecture_version=1,
        num_classes=0,  # known when it is built
        input=input_of(spec, overrides),
        licence=str(said.get("license") or ""),
        model_args=dict(overrides),
    )
    make = functools.partial(timm.create_model, name, pretrained=False)
    taken: dict[str, Any] = {}

    def construct() -> nn.Module:
        model, used = construct_at(make, overrides)
        taken.update(used)
        return model

    def describe(model: Any) -> nn.Module:
        model.pretrained_cfg = replace(model.pretrained_cfg, model_args=dict(taken))
        found: nn.Module = model
        return found

    plan = Blueprint(described=described, construct=construct, finish=describe)
    if not pretrained:
        return plan
    repo = said.get("hf_hub_id")
    if not repo:
        raise NoWeightsError(f"timm has no Hub weights for {reference!r}; `timm.list_pretrained()`")
    tag = str(said.get("tag") or "")
    imagenet = tag.endswith("in1k") and overrides.get("num_classes", 1000) == 1000
    described = replace(described, tag=tag, labels=read_labels("imagenet1k") if imagenet else ())
    return replace(
        plan,
        described=described,
        read=lambda: download_verified(pin_on_first_use(repo)),
        what=repo,
        adapt=bool(overrides),
    )
