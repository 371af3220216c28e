"""The state of a run between two epochs: one safetensors file with a digest and JSON
in its header.

Nothing in it is code, and nothing of it is used unless every byte is as it was written. It replaces
its predecessor by a rename, so that a kill or a full disk leaves the old one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from ..catalog.checked_json import Document
from ..errors import ConfigError, IntegrityError, WeightsFileError
from ..files.json_text import to_json
from ..files.local import read_regular_file, write_bytes
from .job import EpochResult

if TYPE_CHECKING:
    import torch
    from torch import Tensor


FILE = "checkpoint.safetensors"
FORMAT_VERSION = 4
_UNKNOWN = b"0" * 64  # what stands for the digest while it is computed
Tensors = dict[str, "Tensor"]


class _Optimizer(TypedDict):
    groups: list[dict[str, Any]]
    values: dict[str, Any]


class Facts(TypedDict):
    """What a checkpoint holds beside its tensors."""

    format_version: int
    job: dict[str, Any]
    optimizer: _Optimizer
    scaler: dict[str, Any] | None
    epoch: int
    curve: list[EpochResult]
    best_epoch: int
    seconds: float


class _Stated(TypedDict):
    state: str


class _Header(TypedDict):
    __metadata__: _Stated


_REMOVE = "remove it, and the run starts anew"
_HEADER = Document(_Header, "training checkpoint", "weights_file", _REMOVE, WeightsFileError)
DOCUMENT = Document(Facts, "training checkpoint", "weights_file", _REMOVE, WeightsFileError)


def write_checkpoint(directory: Path, groups: dict[str, Tensors], facts: dict[str, Any]) -> None:
    """Write groups of tensors and JSON values. Raises: ResourceError, e.g. for a full disk."""
    import safetensors.torch

    flat = {
        f"{group}/{key}": value.detach().cpu().contiguous()
        for group, tensors in groups.items()
        for key, value in tensors.items()
    }
    text = to_json({"format_version": FORMAT_VERSION, **facts})
    # one entry, for safetensors writes several in an order of chance
    data = safetensors.torch.save(flat, metadata={"state": _UNKNOWN.decode() + text})
    write_bytes(
        directory / FILE, data.replace(_UNKNOWN, hashlib.sha256(data).hexdigest().encode(), 1)
    )


def read_checkpoint(directory: Path) -> tuple[dict[str, Tensors], Facts]:
    """What `write_checkpoint` wrote.

    Raises: NotFoundError, IntegrityError (cut short, changed), WeightsFileError (not one of ours).
    """
    from ..weights.safetensors_file import read_metadata, read_tensors

    path = directory / FILE
    data = read_regular_file(path, "checkpoint")
    metadata = read_metadata(data, str(path))
    state = metadata.get("state", "")
    digest, text = state[: len(_UNKNOWN)], state[len(_UNKNOWN) :]
    _check_digest(data, digest, path)
    tensors = read_tensors(data, str(path))
    facts = DOCUMENT.parse(text, str(path))
    if facts["format_version"] != FORMAT_VERSION:
        why = f"it has format {facts['format_version']}, expected {FORMAT_VERSION}"
        raise DOCUMENT.refusal(str(path), why)
    if all(row.epoch != facts["best_epoch"] for row in facts["curve"]):
        raise DOCUMENT.refusal(str(path), "its best epoch is not on its curve")
    groups: dict[str, Tensors] = {}
    for key, value in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = value
    return groups, facts


def _check_digest(data: bytes, stated: str, path: Path) -> None:
    """Raises: IntegrityError if a byte is not as it was written."""
    written = data.replace(stated.encode(), _UNKNOWN, 1) if len(stated) == len(_UNKNOWN) else b""
    if hashlib.sha256(written).hexdigest() != stated:
        raise IntegrityError(
            f"{path} was changed since it was written, or has no digest; remove it, and the run "
            "starts anew",
            code="hash",
        )


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[Tensors, dict[str, Any]]:
    """State of an optimiser as tensors, and its other values as JSON."""
    import torch

    state = optimizer.state_dict()
    tensors, rest = {}, {}
    for number, values in state["state"].items():
        for key, value in values.items():
            place = tensors if isinstance(value, torch.Tensor) else rest
            place[f"{number}.{key}"] = value
    return tensors, {"groups": state["param_groups"], "values": rest}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors, facts: _Optimizer) -> None:
    """The inverse of `pack_optimizer`."""
    state: dict[int, dict[str, Any]] = {}
    for place, value in (*tensors.items(), *facts["values"].items()):
        number, _, key = place.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": facts["groups"]})


def check_same_job(job: dict[str, Any], stored: dict[str, Any], directory: Path) -> None:
    """Raises: ConfigError that names what differs from the run that is to be continued."""
    now, then = _flat(job), _flat(stored)
    changed = [
        f"{key} was {then.get(key)!r}, is {now.get(key)!r}"
        for key in sorted(now.keys() | then.keys())
        if now.get(key) != then.get(key)
    ]
    if changed:
        raise ConfigError(
            f"{directory} holds another run: {'; '.join(changed[:5])}. Continue it with the same "
            "options and images, or choose another --out",
            code="another_run",
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, dict)
        found |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return found
