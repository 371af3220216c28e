"""The state of a run between two epochs: one safetensors file with JSON in its header.

Nothing in it is code. It replaces its predecessor by a rename, so that a kill or a full disk leaves
the old one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, WeightsFileError
from ..files import read_regular_file, write_bytes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FILE = "checkpoint.safetensors"
FORMAT_VERSION = 1
Tensors = dict[str, "Tensor"]


def write_checkpoint(directory: Path, groups: dict[str, Tensors], facts: dict[str, Any]) -> None:
    """Write groups of tensors and JSON values. Raises: ResourceError, e.g. for a full disk."""
    import safetensors.torch

    flat = {
        f"{group}/{key}": value.detach().cpu().contiguous()
        for group, tensors in groups.items()
        for key, value in tensors.items()
    }
    text = json.dumps({"format_version": FORMAT_VERSION, **facts})
    write_bytes(directory / FILE, safetensors.torch.save(flat, metadata={"state": text}))


def read_checkpoint(directory: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """What `write_checkpoint` wrote.

    Raises: NotFoundError, IntegrityError (cut short), WeightsFileError (not one of ours).
    """
    from ..weights import read_tensors

    path = directory / FILE
    data = read_regular_file(path, "checkpoint")
    tensors = read_tensors(data, str(path))
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        facts = json.loads(header["__metadata__"]["state"])
        if facts["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {facts['format_version']}, expected {FORMAT_VERSION}")
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsFileError(
            f"{path} is not a training checkpoint ({error!r}); remove it, and the run starts anew"
        ) from None
    groups: dict[str, Tensors] = {}
    for key, value in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = value
    return groups, facts


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


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Tensors, facts: dict[str, Any]
) -> None:
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
            "options, or choose another --out",
            code="another_run",
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, dict)
        found |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return found
