"""Import a foreign checkpoint: read it without running it, load it strictly, write a model
directory.

The directory is a model reference for every verb: model.safetensors, config.json, provenance.json
(where the weights come from and what was left behind) and manifest.json. It appears whole or not at
all.
"""

from __future__ import annotations

import datetime
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...catalog.arguments import as_text, check_flags
from ...catalog.references import kind_of
from ...catalog.weights_records import CheckpointRecord
from ...errors import ConfigError
from ...files.json_text import to_json
from ...files.listed import read_listed
from ...files.local import sha256_bytes
from ...files.manifest import FILE as MANIFEST
from ...files.manifest import Manifest, make_manifest
from ...files.provenance import machine, parent_commit, versions
from ...files.staging import require_free, staged_directory
from ..building import build
from ..config_json import build_config
from ..description import PretrainedCfg, Stated

if TYPE_CHECKING:
    from torch import nn

    from ...weights.foreign.reading import Checkpoint
    from .fitting import Fit, Target


_log = logging.getLogger(__name__)
PROVENANCE = "provenance.json"
FILES = ("config.json", "model.safetensors")  # listed in the manifest
IMPORTED = "imported"  # the tag of weights whose origin nobody named


@dataclass(frozen=True)
class Import:
    """What `import_checkpoint` wrote.

    Args:
        directory: a model reference.
        name: ``model.tag``.
        num_classes: 0 for embeddings and feature maps.
        provenance: the content of provenance.json.
        manifest: size and digest of config.json and model.safetensors.
    """

    directory: Path
    name: str
    num_classes: int
    provenance: dict[str, Any]
    manifest: Manifest


def import_checkpoint(
    file: str | os.PathLike[str],
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    ema: bool = False,
    overwrite: bool = False,
    stated: Stated | None = None,
    **overrides: Any,
) -> Import:
    """Read a checkpoint of PyTorch or safetensors and write it as a model directory.

    Nothing in the file is run: its pickle is followed, never executed (`zoo.weights.foreign`), only
    tensors are kept, and no argument changes that.

    Args:
        file: a file of facebookresearch/convit, how-do-vits-work, FCViT, timm (also its training
            script), a detector with such a backbone, or anything with the same names.
        model: ``ARCH[.TAG]``, ``timm:ARCH[.TAG]``, ``torchvision:NAME``, a directory or any other
            reference but one's own code. A tag says which published weights the file is
            (`zoo.catalog.registry.list_checkpoints`); without one they are called "imported".
        out: a directory that does not exist yet or is empty.
        overwrite: replace a finished one.
        ema: take the averaged weights of a training checkpoint.
        stated: labels and preprocessing, in place of what the architecture says.
        overrides: constructor keywords that the file was made with. The number of classes, the
            image size and, for FCViT backbones, `features_only` are found in the file; what leaves
            no trace in names and shapes (heads of plain attention, kernel size, dilation) is not.
    Raises:
        UnknownModelError, ConfigError: `model`, `overrides` or `out` are impossible.
        NotFoundError, ResourceError: a file or directory cannot be read or written.
        WeightsFileError: another kind of file, carries code, not a state dict, not finite, ...
        IntegrityError: cut short or damaged.
        WeightsMismatchError: tensors of another model; the message names the one that fits.
    Example:
        >>> zoo.import_checkpoint("convit_tiny.pth", "convit_tiny.fb_in1k", "convit_tiny/")
        >>> model = zoo.create_model("convit_tiny/", pretrained=True)
    """
    check_flags(ema=ema, overwrite=overwrite)
    model = as_text(model, "model")
    if kind_of(model) == "py":
        raise ConfigError(
            f"an imported directory cannot hold code of one's own; name {model} with --weights "
            f"{os.fspath(file)} instead",
            code="own_code",
        )
    from .fitting import find_target

    target = find_target(model, overrides)
    require_free(out, overwrite)
    found = load_checkpoint(file, target, ema=ema)
    built, weights = found.model, _tag(found, stated)
    provenance = {
        "format_version": 1,
        "source": found.source,
        **_origin(target, found.fit),
        **_reading(found),
        "made_with": {"versions": versions(), "machine": machine(), "commit": parent_commit()},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    manifest = _write(Path(out), built, weights, provenance)
    classes = built.pretrained_cfg.num_classes
    return Import(Path(out), manifest.name, classes, provenance, manifest)


def _read(file: str | os.PathLike[str], ema: bool) -> tuple[Checkpoint, dict[str, Any]]:
    """The tensors of a file, and what identifies it."""
    from ...weights.foreign.reading import read_checkpoint

    data = read_listed(file, "checkpoint")
    found = read_checkpoint(data, os.fspath(file), ema=ema)
    return found, {
        "file": Path(file).name,
        "size_bytes": len(data),
        "sha256": sha256_bytes(data),
        "format": found.kind,
    }


def _say_averages(found: Checkpoint, what: str, model: str) -> None:
    from ...weights.foreign.reading import AVERAGES

    left = [key for key in found.dropped_keys if key.rstrip(".").rpartition(".")[2] in AVERAGES]
    if left:
        way = "`convattn import --ema` takes them instead"
        if kind_of(model) == "py":  # an imported directory cannot hold code
            way = "to take them, save them in a file of their own"
            if "." not in left[0]:
                load = f"torch.load({what!r}, weights_only=True)[{left[0]!r}]"
                way += f": torch.save({load}, 'averaged.pth')"
        _log.warning(f"{what} holds averaged weights too ({left[0]}), which are left out; {way}")


@dataclass(frozen=True)
class Loaded:
    """A model with the tensors of a checkpoint, and how they were found there."""

    model: nn.Module
    target: Target
    fit: Fit
    checkpoint: Checkpoint
    source: dict[str, Any]
    prefix: str
    unused: tuple[str, ...]


def load_checkpoint(file: str | os.PathLike[str], target: Target, *, ema: bool = False) -> Loaded:
    """The model of a target with the tensors of a file, strictly. Errors: `import_checkpoint`."""
    import torch

    from .fitting import fit
    from .prefixes import strip_prefix

    what = os.fspath(file)
    found, source = _read(file, ema)
    _say_averages(found, what, target.name)
    tensors, prefix, outside = strip_prefix(found.tensors, target.names)
    fitted = fit(target, tensors, what)
    computed = [prefix + key for key, name in fitted.names.items() if not name]
    renamed = {name: tensors[key] for key, name in fitted.names.items() if name}
    with torch.random.fork_rng(devices=[]):
        model = build(replace(target.plan(fitted.overrides), what=what), renamed)
    cfg, record = model.pretrained_cfg, fitted.guess.checkpoint
    model.pretrained_cfg = replace(
        cfg,
        licence=_licence(target, record),
        input=record.input if record is not None and record.input is not None else cfg.input,
    )
    return Loaded(model, target, fitted, found, source, prefix, (*outside, *computed))


def _tag(found: Loaded, stated: Stated | None) -> bytes:
    """Say in the model what it is; the bytes of its safetensors file."""
    from ...weights.safetensors_file import weights_bytes

    weights = weights_bytes(found.model)
    cfg: PretrainedCfg = found.model.pretrained_cfg
    cfg = replace(cfg, tag=found.target.tag or IMPORTED)
    cfg = cfg.with_tensors(found.model, sha256_bytes(weights))
    found.model.pretrained_cfg = cfg if stated is None else stated.about(cfg)
    return weights


def _licence(target: Target, record: CheckpointRecord | None) -> str:
    """Of published weights, as upstream states it; of anybody else's nobody has stated one."""
    return "" if record is None else record.licence or target.licence.weights


def _origin(target: Target, fitted: Fit) -> dict[str, Any]:
    """Which published weights these are said to be, and the licence that upstream states."""
    record = fitted.guess.checkpoint
    published = None
    if record is not None:
        published = {
            "name": record.name,
            "named_by": "its tag" if target.tag else "its names and shapes alone",
            "address": record.address,
            "about_address": record.about_address,
            "verified": False,
            "why": "upstream states no digest of this file, so it was compared with nothing",
        }
    return {
        "model": target.name,
        "model_args": dict(fitted.overrides),
        "published_as": published,
        "licence": {
            "weights": _licence(target, record),
            "code": target.licence.code,
            "note": target.licence.note,
            "upstream": (record.upstream if record is not None else "") or target.upstream,
        },
    }


def _reading(loaded: Loaded) -> dict[str, Any]:
    """How the tensors were taken out of the file, and what was not."""
    found, fitted = loaded.checkpoint, loaded.fit
    floats = {str(v.dtype).removeprefix("torch.") for v in found.tensors.values()}
    return {
        "remap": {
            "state_dict_at": list(found.path),
            "prefix_removed": loaded.prefix,
            "layout": fitted.guess.layout,
            "renamed": sum(1 for key, name in fitted.names.items() if name not in ("", key)),
        },
        "dtypes": sorted(floats),
        "dropped_keys": [*found.dropped_keys, *loaded.unused],
        "dropped_globals": list(found.dropped_globals),
        "copied": list(found.copied),
    }


def _write(out: Path, model: nn.Module, weights: bytes, provenance: dict[str, Any]) -> Manifest:
    cfg: PretrainedCfg = model.pretrained_cfg
    with staged_directory(out, replace=True) as folder:
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text(
            to_json(build_config(model), indent=2) + "\n", encoding="utf-8"
        )
        (folder / PROVENANCE).write_text(to_json(provenance, indent=2) + "\n", encoding="utf-8")
        manifest = make_manifest(folder, FILES, cfg.name, cfg.version, cfg.architecture_version)
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest
