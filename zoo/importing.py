"""Import a foreign checkpoint: read it without running it, load it strictly, write a model
directory.

The directory is a model reference for every verb: model.safetensors, config.json, provenance.json
(where the weights come from and what was left behind) and manifest.json. It appears whole or not at
all.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, ZooError
from .files import make_directory, read_regular_file, resource_error, sha256_bytes
from .manifest import FILE as MANIFEST
from .manifest import Manifest, make_manifest
from .measurement import machine, parent_commit, versions
from .pretrained import PretrainedCfg
from .records import CheckpointRecord

if TYPE_CHECKING:
    from torch import nn

    from .checkpoint_fitting import Fit, Target
    from .checkpoint_reader import Checkpoint

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
    model: str,
    out: str | os.PathLike[str],
    *,
    ema: bool = False,
    **overrides: Any,
) -> Import:
    """Read a checkpoint of PyTorch or safetensors and write it as a model directory.

    Nothing in the file is run: it is read with ``weights_only=True`` after every byte was judged
    (`zoo.checkpoint_reader`), only tensors are kept, and no argument changes that.

    Args:
        file: a file of facebookresearch/convit, how-do-vits-work, FCViT, timm (also its training
            script), a detector with such a backbone, or anything with the same names.
        model: ``ARCH[.TAG]`` or ``timm:ARCH[.TAG]``. A tag says which published weights the file
            is (`zoo.registry.list_checkpoints`); without one they are called "imported".
        out: a directory that does not exist yet or is empty.
        ema: take the averaged weights of a training checkpoint.
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
    from .checkpoint_fitting import find_target, fit, strip_prefix

    target = find_target(model, overrides)
    directory = _check_out(Path(out).absolute())
    found, source = _read(file, target, ema)
    tensors, prefix, outside = strip_prefix(found.tensors)
    fitted = fit(target, tensors, os.fspath(file))
    computed = [prefix + key for key, name in fitted.names.items() if not name]
    renamed = {name: tensors[key] for key, name in fitted.names.items() if name}
    built, weights = _build(target, fitted, renamed, os.fspath(file))
    provenance = {
        "format_version": 1,
        "source": source,
        **_origin(target, fitted),
        **_reading(found, fitted, prefix, [*outside, *computed]),
        "made_with": {"versions": versions(), "machine": machine(), "commit": parent_commit()},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    manifest = _write(directory, built, weights, provenance)
    classes = built.pretrained_cfg.num_classes
    return Import(Path(out), manifest.name, classes, provenance, manifest)


def _read(
    file: str | os.PathLike[str], target: Target, ema: bool
) -> tuple[Checkpoint, dict[str, Any]]:
    """The tensors of a file, and what identifies it."""
    from .checkpoint_reader import read_checkpoint

    data = read_regular_file(file, "checkpoint")
    found = read_checkpoint(data, os.fspath(file), target.allowed_globals, ema=ema)
    return found, {
        "file": Path(file).name,
        "size_bytes": len(data),
        "sha256": sha256_bytes(data),
        "format": found.kind,
    }


def _build(
    target: Target, fitted: Fit, tensors: dict[str, Any], what: str
) -> tuple[nn.Module, bytes]:
    """The model with the tensors, strictly loaded, and its safetensors file."""
    import torch

    from .weights import load_state, weights_bytes

    with torch.random.fork_rng(devices=[]):
        model = target.build(fitted.overrides)
    load_state(model, tensors, what)
    weights = weights_bytes(model)
    cfg: PretrainedCfg = model.pretrained_cfg
    record = fitted.guess.checkpoint
    model.pretrained_cfg = replace(
        cfg,
        tag=target.tag or IMPORTED,
        sha256=sha256_bytes(weights),
        licence=_licence(target, record),
        input=record.input if record is not None and record.input is not None else cfg.input,
    )
    return model, weights


def _licence(target: Target, record: CheckpointRecord | None) -> str:
    return (record.licence if record is not None else "") or target.licence.weights


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


def _reading(found: Checkpoint, fitted: Fit, prefix: str, unused: list[str]) -> dict[str, Any]:
    """How the tensors were taken out of the file, and what was not."""
    floats = {str(v.dtype).removeprefix("torch.") for v in found.tensors.values()}
    return {
        "remap": {
            "state_dict_at": list(found.path),
            "prefix_removed": prefix,
            "layout": fitted.guess.layout,
            "renamed": sum(1 for key, name in fitted.names.items() if name not in ("", key)),
        },
        "dtypes": sorted(floats),
        "dropped_keys": [*found.dropped_keys, *unused],
        "dropped_globals": list(found.dropped_globals),
        "copied": list(found.copied),
    }


def _check_out(out: Path) -> Path:
    """Refuse a directory with content before any work is done."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {str(out)!r} is a file; choose another --out", code="out")
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(
            f"--out {str(out)!r} is not empty; choose another --out, or remove it", code="out"
        )
    return out


@contextlib.contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` in one step, or disappears."""
    parent = make_directory(out.absolute().parent)
    folder = parent / f".{out.name}.{os.getpid()}-{os.urandom(4).hex()}"
    try:
        folder.mkdir()
        yield folder
        for path in folder.iterdir():
            with open(path, "rb+") as handle:
                os.fsync(handle.fileno())
        if out.is_dir():
            out.rmdir()
        os.rename(folder, out)
    except ZooError:
        raise
    except OSError as error:
        raise resource_error(error, out) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(out: Path, model: nn.Module, weights: bytes, provenance: dict[str, Any]) -> Manifest:
    from .references import build_config

    cfg: PretrainedCfg = model.pretrained_cfg
    with _staging(out) as folder:
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text(
            json.dumps(build_config(model), indent=2) + "\n", encoding="utf-8"
        )
        (folder / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
        manifest = make_manifest(folder, FILES, cfg.name, cfg.version, cfg.architecture_version)
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest
