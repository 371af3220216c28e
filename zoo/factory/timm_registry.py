"""`zoo.register_in_timm()` registers every architecture of the zoo into timm, as ``zoo_<name>``.

    import timm
    import zoo

    zoo.register_in_timm()
    model = timm.create_model("zoo_convit_nano.digits", pretrained=True)
    backbone = timm.create_model("zoo_fcvit_b12", features_only=True, out_indices=(1, 2, 3))

It is the only way by which anything is registered: nothing else in the zoo calls it. Models come
from `zoo.create_model`, so weights are verified by digest and loaded strictly, and keywords are
checked. No name of timm's own begins with ``zoo_``; a name that is taken already is never replaced.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..catalog.arguments import check_flags
from ..catalog.records import ModelRecord
from ..catalog.registry import get_record, list_models
from ..errors import ConfigError, DuplicateNameError
from ..files.fetch import BUNDLED
from .building import find_class
from .create import create_from_file, create_model
from .description import TIMM_PREFIX, PretrainedCfg

# of timm's scripts, which pass them to every model: left out where the model does not have them
_NEUTRAL = {"drop_rate": 0.0, "drop_path_rate": 0.0, "global_pool": ""}

default_cfgs: dict[str, Any] = {}  # timm reads this name


def create(
    reference: str,
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Mapping[str, Any] | None = None,
    cache_dir: Any = None,
    **kwargs: Any,
) -> Any:
    """What an entry point does: `timm.create_model`'s arguments in `zoo.create_model`'s terms.

    Args:
        reference: name in the zoo.
        pretrained: load weights.
        pretrained_cfg: a tag; or what timm read of hf-hub:NAME or local-dir:PATH, whose weights are
            loaded instead.
        pretrained_cfg_overlay: ``dict(file=PATH)`` loads a safetensors file instead.
        cache_dir: refused with `pretrained`; the Hub's cache is set by its environment variable.
        kwargs: constructor keywords, `features_only`, `out_indices`.
    Raises: as `zoo.create_model`; ConfigError for weights from another source.
    """
    overrides = _own_overrides(reference, kwargs)
    check_flags("; pretrained_cfg takes a tag", pretrained=pretrained)
    overlay = dict(pretrained_cfg_overlay or {})
    if overlay.keys() - {"file", "hf_hub_id"} or (cache_dir is not None and pretrained):
        raise ConfigError(
            "with models of the zoo pretrained_cfg_overlay takes file or hf_hub_id; HF_HUB_CACHE "
            "says where the cache is; `convattn import` reads other checkpoints"
        )
    if isinstance(pretrained_cfg, str):
        reference, pretrained_cfg = f"{reference}.{pretrained_cfg}", None
    if not pretrained:
        return create_model(reference, **overrides)
    source = {**getattr(pretrained_cfg, "__dict__", pretrained_cfg or {}), **overlay}
    return _load(reference, source, overrides)


def _load(reference: str, source: Mapping[str, Any], overrides: Mapping[str, Any]) -> Any:
    """A model with the weights that timm's description names; the reference's if it names none."""
    tag = _registered_tag(reference, source)
    file, hub = source.get("file"), source.get("hf_hub_id")
    if source.get("url") or source.get("state_dict") or source.get("custom_load"):
        raise ConfigError(
            "models of the zoo load weights by tag, from hf-hub:NAME, local-dir:PATH or a "
            "safetensors file; run `convattn import` on other checkpoints"
        )
    if tag or not (file or hub):
        reference += f".{tag}" if tag else ""
        return create_model(reference, True, **overrides)
    if not file:
        return create_model(f"hf-hub:{hub}", True, **overrides)
    if os.path.isdir(file):
        return create_model(os.path.abspath(file), True, **overrides)
    return create_from_file(reference, str(file), **overrides)


def _registered_tag(reference: str, source: Mapping[str, Any]) -> str:
    """The tag of a description that timm's scripts took from here and hand back; else ""."""
    known = default_cfgs.get(TIMM_PREFIX + reference)
    cfg = known and known.cfgs.get(source.get("tag"))
    places = ("file", "hf_hub_id")
    same = cfg and all(getattr(cfg, key) == source.get(key) for key in places)
    return source["tag"] if same else ""


def _own_overrides(reference: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords without those that timm adds on its own account."""
    stored = kwargs.get("pretrained_model_args") or {}  # a config.json's, which is read again
    builder = get_record(reference).family.builder
    accepted = inspect.signature(find_class(builder)).parameters
    return {
        key: value
        for key, value in kwargs.items()
        if key != "pretrained_model_args"
        and not (key in stored and stored[key] == value)
        and not (key in _NEUTRAL and key not in accepted and value == _NEUTRAL[key])
    }


def _entry(name: str) -> Callable[..., Any]:
    record = get_record(name)

    def build(pretrained: bool = False, **kwargs: Any) -> Any:
        return create(name, pretrained, **kwargs)

    build.__name__ = build.__qualname__ = TIMM_PREFIX + name
    build.__doc__ = f"{record.description} ({record.family.paper}); see `zoo.create_model`."
    build.zoo_architecture = name  # type: ignore[attr-defined]
    return build


def _cfgs(record: ModelRecord) -> dict[str, dict[str, Any]]:
    """timm's description of every set of weights, keyed ``name.tag``; without weights ``name``."""
    name = TIMM_PREFIX + record.name
    newest = {weights.tag: weights for weights in reversed(record.weights)}
    found = {}
    for tag in dict.fromkeys(weights.tag for weights in record.weights):
        weights = newest[tag]
        config = {**record.config, **weights.overrides}
        cfg = _cfg(record, config, weights.input or record.input, weights.licence)
        if weights.bundled:
            cfg["file"] = str(BUNDLED / weights.bundled)
        else:
            revision = f"@{weights.revision}" if weights.revision else ""
            cfg["hf_hub_id"] = weights.repo + revision
        found[f"{name}.{tag}"] = cfg
    return found or {name: _cfg(record, record.config, record.input, "")}


def _cfg(record: ModelRecord, config: Mapping[str, Any], spec: Any, licence: str) -> dict[str, Any]:
    cfg = PretrainedCfg(
        architecture=record.name,
        architecture_version=record.family.version,
        num_classes=config.get("num_classes", 1000),
        input=spec,
        licence=licence or record.family.licence.weights,
    )
    hidden = ("architecture", "tag", "label_names")  # timm sets the first two itself
    return {
        **{key: value for key, value in cfg.items() if key not in hidden},
        "paper_ids": record.family.paper,
        "origin_url": f"https://{record.family.upstream}",
    }


def register_in_timm() -> None:
    """Add every model of the zoo to timm's registry as ``zoo_<name>``; twice is as once.

    Raises: DuplicateNameError if timm has such a name from elsewhere: nothing is replaced.
    """
    from timm import models

    own = sys.modules[__name__]
    records = [get_record(name) for name in list_models()]
    new = [record for record in records if not _is_ours(models, record.name)]
    cfgs = {key: cfg for record in new for key, cfg in _cfgs(record).items()}
    default_cfgs.update(models.generate_default_cfgs(cfgs))
    for record in new:
        entry = _entry(record.name)
        setattr(own, entry.__name__, entry)
        models.register_model(entry)


def _is_ours(models: Any, name: str) -> bool:
    """Whether an entry exists: this module's or the same one's under a torch.hub alias.

    Raises: DuplicateNameError if someone else has taken the name.
    """
    name = TIMM_PREFIX + name
    if not models.is_model(name):
        return False
    found = models.model_entrypoint(name)
    if not hasattr(found, "zoo_architecture"):
        raise DuplicateNameError(
            f"timm has a model {name!r} of {found.__module__} already; it was not replaced"
        )
    return True
