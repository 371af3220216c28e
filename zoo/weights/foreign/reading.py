"""Tensors out of a foreign checkpoint: PyTorch's zip and older files, and safetensors.

`archive` judges every byte and `pickle_scan` follows the pickle without running it; the tensors are
made here, from the bytes of their storages. PyTorch's own reader takes no part: there is no other
way in, and no switch.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import WeightsFileError
from ..safetensors_file import copy_tensor, read_tensors
from .archive import Opened, open_checkpoint
from .values import Made, View
from .verdict import tensor_kind

MAX_DEPTH = 8  # dictionaries around the state dict
MAX_GROWTH = 4  # bytes of all tensors together, per byte of the file
_KEY = re.compile(r"[A-Za-z0-9_.\-]{1,256}")
_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "net", "weights", "module")
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")


@dataclass(frozen=True)
class Checkpoint:
    """The state dict of a file, and what was left behind.

    Args:
        kind: "safetensors", "torch zip" or "torch legacy".
        tensors: contiguous, each with memory of its own.
        path: keys that lead to the state dict, e.g. ("model",).
        dropped_keys: entries beside the state dict, and entries of it that are no tensors.
        dropped_globals: names of harmless objects that were not read.
        copied: tensors that shared memory or had strides.
    """

    kind: str
    tensors: dict[str, Tensor]
    path: tuple[str, ...] = ()
    dropped_keys: tuple[str, ...] = ()
    dropped_globals: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()


def read_checkpoint(data: bytes, what: str, *, ema: bool = False) -> Checkpoint:
    """Read a checkpoint held in memory.

    Args:
        what: what error messages call it.
        ema: take the averaged weights (state_dict_ema, model_ema) of a training checkpoint.
    Raises: WeightsFileError (another kind of file, carries code, not a state dict, ...),
        IntegrityError (cut short, or a checksum differs).
    """
    opened = open_checkpoint(data, what)
    root = read_tensors(data, what) if opened.kind == "safetensors" else opened.root
    try:
        state, path, beside = _find_state_dict(root, what, ema)
        tensors, copied = _plain_tensors(state, opened, what, MAX_GROWTH * len(data))
    except WeightsFileError as error:
        if error.code == "not_state_dict" and _has_module(opened):
            raise WeightsFileError(
                f"{what} is a whole pickled module, not a state dict. Where its class can be "
                'imported, run torch.save(model.state_dict(), "state.pth"), and import that file',
                code="not_state_dict",
            ) from None
        raise
    prefix = "".join(f"{key}." for key in path)
    beside += [f"{prefix}{key}" for key in state if key not in tensors]
    return Checkpoint(opened.kind, tensors, tuple(path), tuple(beside), opened.dropped, copied)


def _has_module(opened: Opened) -> bool:
    return opened.has_module or any(n.startswith("torch.nn.modules.") for n in opened.dropped)


def _entries(value: Any) -> dict[str, Any] | None:
    """A dictionary with names as keys (others are described); None if it is something else."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, Made) or value.kind != "dict":
        return None
    return {k if isinstance(k, str) else f"({_describe(k)})": v for k, v in value.pairs()}


def _find_state_dict(
    value: Any, what: str, ema: bool
) -> tuple[dict[str, Any], list[str], list[str]]:
    """The state dict inside the usual wrappings, the keys to it, and the keys beside them."""
    path: list[str] = []
    beside: list[str] = []
    names = (*AVERAGES, *_WRAPPERS) if ema else (*_WRAPPERS, *AVERAGES)
    while len(path) < MAX_DEPTH:
        entries = _entries(value)
        if entries is None:
            raise WeightsFileError(
                f"{what} holds {_describe(value)} where a state dict was expected. Where it was "
                'made, run torch.save(model.state_dict(), "state.pth"), and import that file',
                code="not_state_dict",
            )
        inner = next((n for n in names if _entries(entries.get(n)) is not None), None)
        if inner is None:
            break
        prefix = "".join(f"{key}." for key in path)
        beside += [f"{prefix}{key}" for key in entries if key != inner]
        path.append(inner)
        value = entries[inner]
    else:
        raise WeightsFileError(
            f"{what} wraps its state dict more than {MAX_DEPTH} times, or in itself",
            code="not_state_dict",
        )
    if not set(path) & set(AVERAGES):
        entries, more = _without_twins(entries, path, ema)
        beside += more
    if ema and not set(path) & set(AVERAGES):
        raise WeightsFileError(
            f"{what} has no averaged weights ({', '.join(AVERAGES)}); import it without --ema",
            code="no_ema",
        )
    return entries, path, beside


def _without_twins(
    entries: dict[str, Any], path: list[str], ema: bool
) -> tuple[dict[str, Any], list[str]]:
    """Of tensors and their averages in one dictionary, the ones asked for, and what is beside them.

    Averages begin with one of `AVERAGES` and a dot, and all are there a second time without it, or
    under another word; a module of the model that is called so has no such twins.
    """
    for part in AVERAGES:
        averaged = {key for key in entries if key.startswith(f"{part}.")}
        others = entries.keys() - averaged
        inside = {key.removeprefix(f"{part}.") for key in averaged}
        if averaged and inside <= others | {key.partition(".")[2] for key in others}:
            break
    else:
        return entries, []
    prefix = "".join(f"{key}." for key in path)
    if not ema:
        return {key: entries[key] for key in entries if key in others}, [f"{prefix}{part}."]
    path.append(part)
    own = {key.removeprefix(f"{part}."): entries[key] for key in entries if key in averaged}
    return own, sorted(prefix + key for key in others)


def _describe(value: Any) -> str:
    if isinstance(value, View | Tensor):
        return "a tensor"
    if not isinstance(value, Made):
        return f"a {type(value).__name__}"
    return f"an object of {ascii(value.name[:60])[1:-1]}" if value.name else f"a {value.kind}"


def _plain_tensors(
    state: dict[str, Any], opened: Opened, what: str, limit: int
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a state dict, contiguous and apart from each other; names of the copied ones.

    Raises: WeightsFileError for none at all, odd names, other kinds of tensors, or too many bytes.
    """
    for value in state.values():
        if isinstance(value, Made) and (kind := tensor_kind(value.name)):
            raise WeightsFileError(
                f"{what} holds {kind}, save the file again and import that", code="tensor_kind"
            )
    views = {key: value for key, value in state.items() if isinstance(value, View | Tensor)}
    if not views:
        keys = ", ".join(ascii(key[:40]) for key in list(state)[:4]) or "(none)"
        more = f" and {len(state) - 4} more" if len(state) > 4 else ""
        raise WeightsFileError(
            f"{what} holds no tensors where a state dict was expected; it has the keys {keys}"
            f"{more}. Where it was made, save model.state_dict() alone",
            code="not_state_dict",
        )
    for key in views:
        if not _KEY.fullmatch(key):
            raise WeightsFileError(
                f"{what} has a tensor named {ascii(key)[:80]}, which is no parameter's name",
                code="tensor_name",
            )
    if (
        sum(
            value.nbytes if isinstance(value, Tensor) else value.size_bytes
            for value in views.values()
        )
        > limit
    ):
        raise WeightsFileError(
            f"{what} has tensors that would fill more than {limit} bytes: they repeat one memory "
            "many times; save .contiguous() copies",
            code="limit",
        )
    found = _made(views, opened)
    for key, value in found.items():
        _check_kind(key, value, what)
    memory = {key: v.untyped_storage().data_ptr() for key, v in found.items() if v.numel()}
    owners = Counter(memory.values())
    copied = tuple(
        key
        for key, pointer in memory.items()
        if owners[pointer] > 1 or not found[key].is_contiguous()
    )
    for key in copied:
        found[key] = found[key].clone(memory_format=torch.contiguous_format)
    return found, copied


def _made(views: dict[str, View | Tensor], opened: Opened) -> dict[str, Tensor]:
    """The views as tensors; those of one storage share its memory."""
    storages: dict[str, Tensor] = {}
    found = {}
    for key, view in views.items():
        if isinstance(view, View):
            storage = view.storage
            if storage.key not in storages:
                dtype = getattr(torch, storage.dtype)
                storages[storage.key] = copy_tensor(
                    opened.numbers[storage.key], [storage.items], dtype
                )
            view = storages[storage.key].as_strided(view.size, view.stride, view.offset)
        found[key] = view
    return found


def _check_kind(key: str, value: Tensor, what: str) -> None:
    if value.is_complex():
        raise WeightsFileError(
            f"{what}: {key} is complex; save it as an ordinary tensor", code="tensor_kind"
        )
