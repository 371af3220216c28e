"""Weights: fetch -> verify SHA-256 -> read safetensors -> load strictly; one function each.

The digest is computed on every load from the very bytes that are then parsed, so that a file
changed on disk or in a cache is never used. Bytes are read into memory: nothing is mapped.
"""

from __future__ import annotations

import ctypes
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import (
    IncompatibleWeightsError,
    IntegrityError,
    WeightsFileError,
    WeightsMismatchError,
)
from .files import read_regular_file, sha256_bytes
from .records import ModelRecord, WeightsRecord

if TYPE_CHECKING:
    from torch import Tensor, nn

BUNDLED = Path(__file__).parent / "bundled"
MAX_HEADER_BYTES = 4 << 20
MAX_TENSORS = 20_000

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
_KINDS = (
    (b"<!doctype html", "an HTML page (an error page saved as a file?)"),
    (b"<html", "an HTML page (an error page saved as a file?)"),
    (b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull` to get the file itself)"),
    (b"PK\x03\x04", "a zip archive (a PyTorch .pth file? use `convattn import`)"),
    (b"\x80\x02", "a Python pickle (a PyTorch .pth file? use `convattn import`)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x08", "not safetensors (an ONNX model?)"),
    (b'{"', "a JSON document (an error message saved as a file?)"),
)


def check_architecture(weights: WeightsRecord, record: ModelRecord) -> None:
    """Raises: IncompatibleWeightsError if the weights were made for other forward numerics."""
    if record.family.version not in weights.architecture_versions:
        fits = ", ".join(str(v) for v in weights.architecture_versions)
        raise IncompatibleWeightsError(
            f"{weights.name} fits version {fits} of the {record.family.name} architecture; this is "
            f"version {record.family.version}. Use weights made for it, or an older convattn-zoo"
        )


def fetch(record: WeightsRecord) -> bytes:
    """The verified bytes of a weights file, from the package or from the Hub.

    Raises: IntegrityError (size or digest differ, or not pinned yet where that is required),
        NetworkError, ResourceError.
    """
    if record.bundled:
        data = read_regular_file(BUNDLED / record.bundled, "weights file")
        verify_bytes(data, record)
        return data
    from .hub import download_verified
    from .pins import pin_on_first_use

    if record.pinned_on_first_use:
        return download_verified(pin_on_first_use(record.repo, record.file))
    return download_verified(record)


def verify_bytes(data: bytes, record: WeightsRecord) -> None:
    """Raises: IntegrityError if `data` is not exactly the recorded file."""
    if len(data) != record.size_bytes:
        raise IntegrityError(
            f"{record.name} has {len(data)} bytes, expected {record.size_bytes}; {_guess(data)}"
            "the file is damaged, install or download it again",
            code="truncated" if len(data) < record.size_bytes else "integrity",
        )
    digest = sha256_bytes(data)
    if digest != record.sha256:
        raise IntegrityError(
            f"{record.name} has SHA-256 {digest}, expected {record.sha256}; {_guess(data)}"
            "the file was changed, install or download it again",
            code="hash",
        )


def _guess(data: bytes) -> str:
    kind = wrong_kind(data)
    return f"it looks like {kind}; " if kind else ""


def wrong_kind(data: bytes) -> str:
    """What the first bytes say the file is, if it clearly is not safetensors; else ''."""
    head = data[:64].lstrip().lower()
    return next((kind for magic, kind in _KINDS if head.startswith(magic.lower())), "")


def read_header(data: bytes, what: str) -> dict[str, Any]:
    """Parse and check the safetensors header: tensor name -> {dtype, shape, data_offsets}.

    Raises: WeightsFileError (wrong kind, malformed), IntegrityError (truncated).
    """
    length = _header_length(data, what)
    try:
        header = json.loads(data[8 : 8 + length], object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        end = max((info["data_offsets"][1] for info in header.values()), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise WeightsFileError(
            f"{what} has a malformed safetensors header ({error}); download or export it again"
        ) from None
    if len(header) > MAX_TENSORS:
        raise WeightsFileError(
            f"{what} holds {len(header)} tensors; at most {MAX_TENSORS} are read", code="limit"
        )
    if isinstance(end, int) and 8 + length + end > len(data):
        raise _cut_short(what, f"its tensors need {8 + length + end}", len(data))
    return header


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
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"duplicate key {next(k for k in keys if keys.count(k) > 1)!r}")
    return dict(pairs)


def read_tensors(data: bytes, what: str) -> dict[str, Tensor]:
    """Parse a safetensors file held in memory; the tensors are torch's own, aligned memory.

    Raises: WeightsFileError, IntegrityError.
    """
    import numpy as np

    header = read_header(data, what)
    body = np.frombuffer(data, np.uint8)[8 + struct.unpack("<Q", data[:8])[0] :]
    tensors, end = {}, 0
    try:
        for key, info in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            begin, stop = info["data_offsets"]
            if begin != end:
                raise ValueError(f"{key} starts at byte {begin}, expected {end}")
            tensors[key], end = _tensor(info, body[begin:stop]), stop
        if end != len(body):
            raise ValueError(f"{len(body) - end} bytes belong to no tensor")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise WeightsFileError(
            f"{what} is not a valid safetensors file ({error}); download or export it again"
        ) from None
    return tensors


def _tensor(info: Mapping[str, Any], raw: Any) -> Tensor:
    """A tensor of a header entry and a copy of its bytes. Raises: ValueError, KeyError."""
    import torch

    shape, dtype = info["shape"], getattr(torch, _DTYPES[info["dtype"]])
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"{shape} is not a shape")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"{info['dtype']} {shape} does not fit {len(raw)} bytes")
    tensor = torch.empty(shape, dtype=dtype, device="cpu")
    ctypes.memmove(tensor.data_ptr(), raw.ctypes.data, len(raw))  # `.numpy()` would fix its size
    return tensor


def load_state(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    what: str,
    *,
    adapt: bool = False,
    assign: bool = False,
) -> bool:
    """Load a state dict strictly: same keys, shapes and floating-point-ness, or an error.

    Args:
        adapt: allow what `create_model` documents: a classifier of another width stays newly
            initialised, another number of input channels is summed or repeated, and position
            embeddings are resampled.
        assign: the tensors become the model's own, in the model's dtypes, instead of being copied.
    Returns: whether the tensors went in as they are, none adapted.
    Raises: WeightsMismatchError that lists what is missing, unexpected or of another shape.
    """
    given = tensors
    expected = model.state_dict()
    tensors = dict(tensors)
    if adapt:
        from .adaptation import adapt_tensors

        tensors = adapt_tensors(model, expected, tensors)
    wrong = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & tensors.keys()
        if tensors[key].shape != expected[key].shape
        or tensors[key].is_floating_point() != expected[key].is_floating_point()
    ]
    missing, unexpected = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or unexpected or wrong:
        raise WeightsMismatchError.between(what, missing, unexpected, wrong)
    unchanged = all(tensors[key] is given.get(key) for key in expected)
    if assign:
        tensors = {key: tensors[key].to(expected[key].dtype).contiguous() for key in expected}
    model.load_state_dict(tensors, strict=True, assign=assign)
    return unchanged


def weights_bytes(model: nn.Module) -> bytes:
    """The state dict as a safetensors file: the same weights give the same bytes.

    Raises: WeightsFileError if a value is not finite.
    """
    import safetensors.torch
    import torch

    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    bad = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if bad:
        raise WeightsFileError(
            f"{len(bad)} tensors are not finite, e.g. {bad[0]}; a model with NaN or infinity is "
            f"not saved",
            code="not_finite",
        )
    return safetensors.torch.save(state, metadata={"format": "pt"})
