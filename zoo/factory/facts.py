"""Everything known about a model that is not a name of the registry, or about a file of weights."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..catalog.checked_json import JsonError, parse_json
from ..catalog.references import kind_of
from ..errors import ConfigError, ZooError
from ..files.listed import read_listed
from ..files.local import sha256_bytes
from ..files.manifest import FILE as MANIFEST
from ..files.manifest import Manifest, read_manifest
from ..files.places import WEIGHTS, Directory, Repository
from .building import Blueprint
from .config_json import architecture_of, read_config
from .description import PretrainedCfg
from .resolve import resolve

WEIGHT_FILES = (".safetensors", ".pth", ".bin", ".ckpt", ".tar")
_REPORTS = ("metrics.json", "provenance.json", "parity.json", "history.json")


def facts_of(reference: str, keywords: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a directory, a repository or somebody else's model is, as JSON values.

    Nothing is downloaded but a repository's config.json and manifest; no weights are read.

    Raises: as `zoo.create_model`.
    """
    kind = kind_of(reference)
    facts: dict[str, Any] = {"reference": reference, "kind": kind}
    if kind in ("directory", "hf-hub"):
        place = Repository.find(reference) if kind == "hf-hub" else Directory(reference)
        facts |= _facts_of_config(read_config(place))
        try:
            plan = resolve(reference, False, keywords)
        except ConfigError as error:
            if error.code != "own_code":
                raise
            return {**facts, **_facts_of_place(place)}
        return {**facts, **_facts_of_plan(plan), **_facts_of_place(place)}
    plan = resolve(reference, False, keywords)
    facts |= _facts_of_plan(plan)
    try:
        with_weights = resolve(reference, True, keywords)
        facts["weights"] = with_weights.what or "the code's own"
        facts["tag"] = with_weights.described.tag
        facts |= _facts_of_labels(with_weights.described)
    except ZooError as error:
        facts["weights"] = f"none that load by this name: {error}"
    return facts


def _facts_of_plan(plan: Blueprint) -> dict[str, Any]:
    """The architecture: what it says of itself, and its size."""
    cfg, record = plan.described, plan.record
    facts: dict[str, Any] = {
        "architecture": cfg.architecture,
        "architecture_version": cfg.architecture_version,
        "input": cfg.input.to_dict(),
        "model_args": dict(cfg.model_args),
        "licence": cfg.licence,
    }
    if record is not None:
        facts |= {
            "family": record.family.name,
            "description": record.description,
            "paper": record.family.paper,
            "upstream": record.family.upstream,
            "code_licence": record.family.licence.code,
        }
    facts |= _facts_of_module(plan)
    return {**facts, **_facts_of_labels(cfg)}


def _facts_of_module(plan: Blueprint) -> dict[str, Any]:
    """Parameters and classes, counted on a model without values where that is possible."""
    from .building import build
    from .outline import outlined

    own = plan.described.architecture.startswith("py:")
    model = build(plan) if own else outlined(lambda: build(replace(plan, stated=False)))
    cfg: PretrainedCfg = model.pretrained_cfg
    return {
        "class": type(model).__name__,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "num_classes": cfg.num_classes,
        "input": cfg.input.to_dict(),
    }


def _facts_of_labels(cfg: PretrainedCfg) -> dict[str, Any]:
    return {"labels": list(cfg.labels)} if cfg.labels else {}


def _facts_of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json says of its weights."""
    own = config.get("convattn", {})
    facts = {
        "architecture": architecture_of(config),
        "tag": own.get("tag", ""),
        "version": own.get("version", ""),
        "weights_sha256": own.get("weights_sha256", ""),
        "num_classes": config.get("num_classes"),
    }
    return {key: value for key, value in facts.items() if value not in ("", None)}


def _facts_of_place(place: Directory | Repository) -> dict[str, Any]:
    """The manifest, and the reports that lie beside the weights."""
    if isinstance(place, Repository):
        facts: dict[str, Any] = {"repository": place.repo, "commit": place.commit}
        manifest = place.manifest
        return {**facts, **({} if manifest is None else _facts_of_manifest(manifest))}
    folder, facts = Path(place.path), {}
    if (folder / MANIFEST).is_file():
        facts |= _facts_of_manifest(read_manifest(folder))
    elif (folder / WEIGHTS).is_file():
        facts["files"] = {WEIGHTS: (folder / WEIGHTS).stat().st_size}
    for name in _REPORTS:
        if (folder / name).is_file():
            facts[name.removesuffix(".json")] = _scalars(folder / name)
    return facts


def _facts_of_manifest(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "files": {path: size for path, size, _ in manifest.files},
    }


def _scalars(path: Path) -> Any:
    """The numbers and texts of a report, down to its second level; lists by their length."""
    try:
        content = parse_json(read_listed(path, path.name))
    except JsonError as error:
        return f"damaged: {error}"
    if not isinstance(content, dict):
        return f"{len(content)} entries" if isinstance(content, list) else content
    return {
        key: {k: v for k, v in value.items() if not isinstance(v, dict | list)}
        if isinstance(value, dict)
        else f"{len(value)} entries"
        if isinstance(value, list)
        else value
        for key, value in content.items()
    }


def facts_of_weights(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file of weights holds: safetensors, or a checkpoint of PyTorch, which is not run.

    Raises: NotFoundError, ResourceError, WeightsFileError, IntegrityError.
    """
    from ..weights.foreign.reading import read_checkpoint
    from ..weights.safetensors_file import read_metadata

    what = os.fspath(path)
    data = read_listed(path, "weights file")
    found = read_checkpoint(data, what)
    kinds = Counter(str(value.dtype).removeprefix("torch.") for value in found.tensors.values())
    facts: dict[str, Any] = {
        "file": os.path.basename(what),
        "kind": found.kind,
        "size_bytes": len(data),
        "sha256": sha256_bytes(data),
        "tensors": len(found.tensors),
        "values": sum(math.prod(value.shape) for value in found.tensors.values()),
        "dtypes": dict(kinds),
        "state_dict_at": list(found.path),
        "beside_it": list(found.dropped_keys),
        "objects_not_read": list(found.dropped_globals),
        "first": {k: list(v.shape) for k, v in list(found.tensors.items())[:3]},
        "last": {k: list(v.shape) for k, v in list(found.tensors.items())[-2:]},
    }
    if found.kind == "safetensors":
        facts["metadata"] = read_metadata(data, what)
    return facts
