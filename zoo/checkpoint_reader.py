"""Tensors out of a foreign checkpoint: PyTorch's zip and older files, and safetensors.

`zoo.checkpoint_files` judges every byte before PyTorch sees it. What passes is read with
``weights_only=True`` from the very bytes that were judged; nothing is mapped. There is no other way
in, and no switch.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .checkpoint_files import MAX_GROWTH, check_file
from .errors import WeightsFileError
from .weights import read_tensors

MAX_DEPTH = 8  # dictionaries around the state dict
_KEY = re.compile(r"[A-Za-z0-9_.\-]{1,256}")
_WRAPPERS = ("state_dict", "model")
_AVERAGES = ("state_dict_ema", "model_ema")


class _Dropped:
    """What a harmless but useless object becomes: nothing of it is kept, no method of it runs."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Dropped:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


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


def read_checkpoint(
    data: bytes, what: str, allowed: Collection[str] = (), *, ema: bool = False
) -> Checkpoint:
    """Read a checkpoint held in memory.

    Args:
        what: what error messages call it.
        allowed: names in its pickle that stand for harmless metadata.
        ema: take the averaged weights (state_dict_ema, model_ema) of a training checkpoint.
    Raises: WeightsFileError (another kind of file, carries code, not a state dict, ...),
        IntegrityError (cut short, or a checksum differs).
    """
    kind, dropped = check_file(data, what, allowed)
    value = read_tensors(data, what) if kind == "safetensors" else _load(data, what, dropped)
    state, path, beside = _find_state_dict(value, what, ema)
    tensors, copied = _plain_tensors(state, what, MAX_GROWTH * len(data))
    inside = [str(key) for key in state if key not in tensors]
    prefix = "".join(f"{key}." for key in path)
    beside += [f"{prefix}{key}" for key in inside]
    return Checkpoint(kind, tensors, tuple(path), tuple(beside), dropped, copied)


def _load(data: bytes, what: str, dropped: tuple[str, ...]) -> Any:
    """PyTorch's restricted reading; harmless names become empty objects."""
    stand_ins: list[Any] = [(_Dropped, name) for name in dropped]
    try:
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True, mmap=False)
    except MemoryError:
        raise
    except Exception as error:  # eleven types were seen; their texts recommend unsafe loading
        raise WeightsFileError(
            f"{what} is damaged or in a layout that is not supported ({type(error).__name__} while "
            "reading it); download it again, or save its state dict anew",
            code="malformed",
        ) from None


def _find_state_dict(
    value: Any, what: str, ema: bool
) -> tuple[dict[Any, Any], list[str], list[str]]:
    """The state dict inside the usual wrappings, the keys to it, and the keys beside them."""
    path: list[str] = []
    beside: list[str] = []
    names = (*_AVERAGES, *_WRAPPERS) if ema else (*_WRAPPERS, *_AVERAGES)
    while len(path) < MAX_DEPTH:
        if not isinstance(value, dict):
            raise WeightsFileError(
                f"{what} holds {_describe(value)} where a state dict was expected. Where it was "
                'made, run torch.save(model.state_dict(), "state.pth"), and import that file',
                code="not_state_dict",
            )
        entries = dict(dict.items(value))  # an OrderedDict may carry attributes of its own
        inner = next((n for n in names if isinstance(entries.get(n), Mapping)), None)
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
    if ema and not set(path) & set(_AVERAGES):
        raise WeightsFileError(
            f"{what} has no averaged weights ({', '.join(_AVERAGES)}); import it without --ema",
            code="no_ema",
        )
    return entries, path, beside


def _describe(value: Any) -> str:
    return "a dropped object" if isinstance(value, _Dropped) else f"a {type(value).__name__}"


def _plain_tensors(
    state: dict[Any, Any], what: str, limit: int
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a state dict, contiguous and apart from each other; names of the copied ones.

    Raises: WeightsFileError for none at all, odd names, other kinds of tensors, or too many bytes.
    """
    found = {key: value.detach() for key, value in state.items() if isinstance(value, Tensor)}
    if not found:
        raise WeightsFileError(
            f"{what} holds no tensors where a state dict was expected; it has the keys "
            f"{', '.join(ascii(str(key)[:40]) for key in list(state)[:10]) or '(none)'}",
            code="not_state_dict",
        )
    for key, value in found.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise WeightsFileError(
                f"{what} has a tensor named {ascii(key)[:80]}, which is no parameter's name",
                code="tensor_name",
            )
        _check_kind(key, value, what)
    if sum(value.numel() * value.element_size() for value in found.values()) > limit:
        raise WeightsFileError(
            f"{what} has tensors that would fill more than {limit} bytes: they repeat one memory "
            "many times; save .contiguous() copies",
            code="limit",
        )
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


def _check_kind(key: str, value: Tensor, what: str) -> None:
    kind = ""
    if value.layout != torch.strided or value.is_nested:
        kind = "sparse or nested"
    elif value.is_quantized:
        kind = "quantised"
    elif value.device.type != "cpu":
        kind = f"on the device {value.device.type}"
    elif value.is_complex():
        kind = "complex"
    if kind:
        raise WeightsFileError(
            f"{what}: {key} is {kind}; save it as an ordinary tensor", code="tensor_kind"
        )
