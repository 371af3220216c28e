"""Models that timm builds: ``timm:NAME``, with timm's weights loaded as ours are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .errors import NoWeightsError, UnknownModelError, suggestion
from .files import sha256_bytes
from .pretrained import PretrainedCfg
from .records import InputSpec

if TYPE_CHECKING:
    from torch import nn


def create_from_timm(reference: str, pretrained: bool, overrides: Mapping[str, Any]) -> nn.Module:
    """The model of ``timm:NAME``. Errors as `zoo.create_model`."""
    import timm

    from .registry import timm_checkpoints

    known = next((c for c in timm_checkpoints() if c.name == reference), None)
    if known is not None:
        if pretrained:
            raise NoWeightsError(known.how_to_import, code="import_first")
        return create_from_timm(known.model, False, {**known.overrides, **overrides})
    name = reference.removeprefix("timm:")
    if not timm.is_model(name):
        raise UnknownModelError(
            f"timm {timm.__version__} has no model {name!r}{suggestion(name, timm.list_models())}; "
            "timm.list_models() lists all"
        )
    model = timm.create_model(name, pretrained=False, **overrides)
    said = model.pretrained_cfg
    cfg = PretrainedCfg(
        architecture=reference,
        architecture_version=1,
        num_classes=getattr(model, "num_classes", 0),  # features_only models have none
        input=InputSpec.from_dict(timm.data.resolve_model_data_config(model)),
        licence=str(said.get("license") or ""),
        model_args=dict(overrides),
    )
    if pretrained:
        cfg = _load_from_timm_hub(model, reference, said, cfg, bool(overrides))
    model.pretrained_cfg = cfg
    return model


def _load_from_timm_hub(
    model: nn.Module, reference: str, said: Mapping[str, Any], cfg: PretrainedCfg, adapt: bool
) -> PretrainedCfg:
    """Load timm's weights as ours: pinned on first use, verified, strictly.

    Raises: NoWeightsError if timm names no Hub repository; what `zoo.hub` raises.
    """
    from .hub import download_verified
    from .labels import read_labels
    from .pins import pin_on_first_use
    from .weights import load_state, read_tensors

    repo = said.get("hf_hub_id")
    if not repo:
        raise NoWeightsError(f"timm has no Hub weights for {reference!r}; `timm.list_pretrained()`")
    pin = pin_on_first_use(repo)
    unchanged = load_state(model, read_tensors(download_verified(pin), repo), repo, adapt=adapt)
    imagenet = cfg.num_classes == 1000 and str(said.get("tag") or "").endswith("in1k")
    return replace(
        cfg,
        tag=str(said.get("tag") or ""),
        sha256=pin.sha256 if unchanged else "",
        labels=read_labels("imagenet1k") if imagenet else (),
    )


def create_from_timm_config(
    architecture: str,
    config: Mapping[str, Any],
    weights: bytes | None,
    what: str,
    overrides: Mapping[str, Any],
) -> nn.Module:
    """An exported timm model, built by timm and loaded strictly."""
    from .weights import load_state, read_tensors

    args = {"num_classes": config["num_classes"], **config.get("model_args", {}), **overrides}
    model = create_from_timm(architecture, False, args)
    cfg: PretrainedCfg = model.pretrained_cfg
    if weights is not None:
        load_state(model, read_tensors(weights, what), what)
        cfg = replace(cfg, tag=config["convattn"].get("tag", ""), sha256=sha256_bytes(weights))
    stated = {} if overrides else config.get("pretrained_cfg", {})
    model.pretrained_cfg = replace(
        cfg,
        labels=tuple(config.get("label_names") or ()),
        licence=config["convattn"].get("licence") or cfg.licence,
        input=InputSpec.from_dict({**cfg.input.to_dict(), **stated}),
    )
    return model
