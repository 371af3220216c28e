"""Train a registered model and write a run directory that every verb accepts as a model
reference.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..errors import ConfigError
from ..factory import create_random
from ..files import make_directory, sha256_bytes, write_bytes, write_text
from ..manifest import FILE as MANIFEST
from ..manifest import make_manifest
from ..measurement import provenance
from ..references import build_config
from ..registry import get_record
from ..weights import weights_bytes
from .digits import load_digits
from .loop import EpochResult, Recipe, TrainingResult, train

FILES = ("config.json", "metrics.json", "model.safetensors")


def train_model(
    name: str,
    data: str,
    out: str | Path,
    recipe: Recipe,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
) -> TrainingResult:
    """Train `name` on `data` and write config.json, model.safetensors, metrics.json, manifest.json.

    Args:
        name: a registered model; it takes the classes of the data.
        data: "digits".
        out: run directory; checked to be writable before training starts.
    Raises: ConfigError for other data, UnknownModelError, ResourceError.
    """
    if data != "digits":
        raise ConfigError(f"--data {data!r} is not supported; this version trains on 'digits'")
    record = get_record(name)
    out = make_directory(out)
    labels = load_digits("train").labels
    overrides = (
        {} if record.config.get("num_classes") == len(labels) else {"num_classes": len(labels)}
    )
    model = create_random(record.name, recipe.seed, **overrides)
    spec = model.pretrained_cfg.input
    result = train(model, spec, load_digits, recipe, on_epoch)
    weights = weights_bytes(model)
    model.pretrained_cfg = replace(
        model.pretrained_cfg, tag=data, labels=labels, sha256=sha256_bytes(weights)
    )
    metrics = {"model": name, "data": data, **result.to_dict(), **provenance(recipe.seed)}
    write_bytes(out / "model.safetensors", weights)
    write_text(out / "config.json", json.dumps(build_config(model), indent=2) + "\n")
    write_text(out / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    cfg = model.pretrained_cfg
    manifest = make_manifest(out, FILES, cfg.name, cfg.version, cfg.architecture_version)
    write_text(out / MANIFEST, manifest.to_json())
    return result
