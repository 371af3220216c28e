"""Weights: fetch -> verify SHA-256 -> read safetensors -> load strictly; one function each.

The digest is computed on every load from the very bytes that are then parsed, so that a file
changed on disk or in a cache is never used. Bytes are read into memory: nothing is mapped.
"""

from __future__ import annotations

import ctypes
import json
import math
import re
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import IntegrityError, WeightsFileError
from ..files.local import wrong_kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

MAX_HEADER_BYTES = 4 << 20
MAX_TENSORS = 20_000
MAX_RANK = 16
MAX_SIDE = 2**31
NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_.\-/]{1,256}")  # of tensors; "/" in training checkpoints

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_ITEM_BYTES = {name: int(re.sub(r"\D", "", name) or 8) // 8 for name in _DTYPES}


def read_header(data: bytes, what: str) -> dict[str, Any]:
    """Parse and check the safetensors header: tensor name -> {dtype, shape, data_offsets}, in the
    order of their bytes, which follow each other without a gap.

    Raises: WeightsFileError (wrong kind, malformed, beyond a limit), IntegrityError (truncated).
    """
    length = _header_length(data, what)
    try:
        header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=_unique)
        _check_metadata(header.pop("__metadata__", {}))
        if len(header) <= MAX_TENSORS:
            for name, info in header.items():
                _check_entry(name, info)
    except (ValueError, RecursionError) as error:
        raise WeightsFileError(
            f"{what} has a malformed safetensors header ({str(error)[:120]}); download or export "
            "it again"
        ) from None
    if len(header) > MAX_TENSORS:
        raise WeightsFileError(
            f"{what} holds {len(header)} tensors; at most {MAX_TENSORS} are read", code="limit"
        )
    header = dict(sorted(header.items(), key=lambda item: item[1]["data_offsets"]))
    end = max((info["data_offsets"][1] for info in header.values()), default=0)
    if 8 + length + end > len(data):
        raise _cut_short(what, f"its tensors need {8 + length + end}", len(data))
    _check_gaps(header, len(data) - 8 - length, what)
    return header


def read_metadata(data: bytes, what: str) -> dict[str, str]:
    """The texts in the header of a safetensors file. Raises: as `read_header`."""
    read_header(data, what)
    metadata: dict[str, str] = json.loads(data[8 : 8 + _header_length(data, what)]).get(
        "__metadata__", {}
    )
    return metadata


def _check_metadata(metadata: Any) -> None:
    """Raises: ValueError if it is no dictionary of texts."""
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its metadata is not text")


def _check_entry(name: str, info: Any) -> None:
    """Raises: ValueError if a header entry does not describe a tensor that this library reads."""
    called = ascii(name[:40])
    if not NAME.fullmatch(name):
        raise ValueError(f"{called} is no name of a tensor")
    if not isinstance(info, dict) or info.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{called} needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = info["dtype"], info["shape"], info["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"{called} has dtype {ascii(dtype)[:20]}; known: {', '.join(_DTYPES)}")
    if not _are_counts(shape, MAX_SIDE) or len(shape) > MAX_RANK:
        raise ValueError(f"{called} has the impossible shape {ascii(shape)[:40]}")
    if not _are_counts(offsets, 2**63) or len(offsets) != 2:
        raise ValueError(f"{called} has the impossible data_offsets {ascii(offsets)[:40]}")
    if math.prod(shape) * _ITEM_BYTES[dtype] != offsets[1] - offsets[0]:
        raise ValueError(f"{called}, {dtype} {shape}, does not fit its {offsets} bytes")


def _are_counts(values: Any, limit: int) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < limit for v in values)


def _check_gaps(header: Mapping[str, Any], size: int, what: str) -> None:
    """Raises: WeightsFileError if tensors overlap, or bytes belong to none."""
    end, problem = 0, ""
    for name, info in header.items():
        begin, stop = info["data_offsets"]
        if begin != end:
            problem = problem or f"{name[:40]} starts at byte {begin}, expected {end}"
        end = stop
    if end != size:
        problem = problem or f"{size - end} bytes belong to no tensor"
    if problem:
        raise WeightsFileError(
            f"{what} is not a valid safetensors file ({problem}); download or export it again"
        )


def _header_length(data: bytes, what: str) -> int:
    """Bytes of the JSON header that follows the first eight. Raises: as `read_header`."""
    if not data:
        raise IntegrityError(f"{what} is empty; download or export it again", code="truncated")
    length: int = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if length > len(data) - 8 or length < 2 or data[8:9] != b"{":
        kind = wrong_kind(data)
        if not kind and 2 <= length <= MAX_HEADER_BYTES and data[8:9] in (b"{", b""):
            raise _cut_short(what, f"its header needs {8 + length}", len(data))
        said = f"is {kind}; expected a safetensors file" if kind else "is not a safetensors file"
        raise WeightsFileError(f"{what} {said}", code="wrong_kind")
    if length > MAX_HEADER_BYTES:
        raise WeightsFileError(
            f"{what} has a header of {length} bytes; at most {MAX_HEADER_BYTES} are read",
            code="limit",
        )
    return length


def _cut_short(what: str, needs: str, size: int) -> IntegrityError:
    return IntegrityError(
        f"{what} is cut short: {needs} bytes, the file has {size}; download or export it again",
        code="truncated",
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"duplicate key {ascii(max(counts, key=counts.__getitem__))[:80]}")
    return found


def read_tensors(data: bytes, what: str) -> dict[str, Tensor]:
    """Parse a safetensors file held in memory; the tensors are torch's own, aligned memory.

    Raises: WeightsFileError, IntegrityError.
    """
    import torch

    header = read_header(data, what)
    body = memoryview(data)[8 + struct.unpack("<Q", data[:8])[0] :]
    tensors = {}
    for key, info in header.items():
        begin, stop = info["data_offsets"]
        dtype = getattr(torch, _DTYPES[info["dtype"]])
        tensors[key] = copy_tensor(body[begin:stop], info["shape"], dtype)
    return tensors


def copy_tensor(raw: memoryview, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A contiguous tensor with a copy of these bytes, of which there are just enough."""
    import numpy as np
    import torch

    tensor = torch.empty(shape, dtype=dtype, device="cpu")
    if len(raw) != tensor.nbytes:
        raise ValueError(f"{dtype} {shape} does not fit {len(raw)} bytes")
    if len(raw):
        source = np.frombuffer(raw, np.uint8)  # `.numpy()` of the tensor would fix its size
        ctypes.memmove(tensor.data_ptr(), source.ctypes.data, len(raw))
    return tensor


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raises: WeightsFileError (code "not_finite") if a value is NaN or infinite."""
    import torch

    for key, value in tensors.items():
        # the sum is one pass without memory; it may overflow where every value is finite
        if value.is_floating_point() and not value.is_meta and not torch.isfinite(value.sum()):
            bad = int((~torch.isfinite(value)).sum())
            if bad:
                raise WeightsFileError(
                    f"{what}: {bad} of {value.numel()} values of {key} are not finite (NaN or "
                    "infinity), so it can answer nothing; get or train the weights again",
                    code="not_finite",
                )


def weights_bytes(model: nn.Module) -> bytes:
    """The state dict as a safetensors file: the same weights give the same bytes. Tensors that
    share memory, as tied weights do, are each written.

    Raises: WeightsFileError if a value is not finite, or no tensor.
    """
    import safetensors.torch
    import torch

    state, seen = {}, set()
    for key, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise WeightsFileError(
                f"{key} of the state dict is {type(value).__name__}, no tensor, as of quantised "
                "layers; export the model before it is quantised (`--precision int8`)"
            )
        held = value.detach().cpu().contiguous()
        place = held.untyped_storage().data_ptr()
        state[key] = held.clone() if place in seen else held
        seen.add(place)
    bad = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if bad:
        raise WeightsFileError(
            f"{len(bad)} tensors are not finite, e.g. {bad[0]}; a model with NaN or infinity is "
            f"not saved",
            code="not_finite",
        )
    return safetensors.torch.save(state, metadata={"format": "pt"})
