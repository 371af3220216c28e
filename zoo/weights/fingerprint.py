"""Whether a model still has the tensors that were loaded into it, told at the speed of memory.

A fingerprint is for honest changes: training, noise, a new classifier. It is no digest: sums of
integers say that something changed, not that nobody meant to hide it.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

Fingerprint = Mapping[str, tuple[str, bytes]]  # name -> dtype, mark

_ROW = 4093  # words of 8 bytes that are summed apart; prime, so that rows of a matrix do not meet
_SHORT = 2 * 8 * _ROW  # bytes that are marked as they are


def fingerprint(model: nn.Module) -> Fingerprint:
    """What tells the tensors of a state dict from others."""
    state = model.state_dict()
    return {name: (str(value.dtype), _mark(value)) for name, value in state.items()}


def has_tensors(model: nn.Module, marks: Fingerprint, *, without_classifier: bool) -> bool:
    """Whether the state dict is the one of `marks`, but for conversions to a wider dtype and back.

    Args: without_classifier: names of `marks` may be missing.
    """
    import torch

    state = model.state_dict()
    if not state.keys() <= marks.keys() or (len(state) < len(marks) and not without_classifier):
        return False
    for name, value in state.items():
        dtype, mark = marks[name]
        if not isinstance(value, torch.Tensor):
            return False
        if str(value.dtype) != dtype:
            value = value.to(getattr(torch, dtype.removeprefix("torch.")))
        if _mark(value) != mark:
            return False
    return True


def _mark(tensor: Tensor) -> bytes:
    """Sums of every 4093rd word of 8 bytes, hashed with shape and tail."""
    seen = hashlib.blake2b(repr(tuple(tensor.shape)).encode(), digest_size=16)
    if not tensor.is_meta and tensor.numel():
        held = tensor.detach().cpu().contiguous()
        raw = (ctypes.c_char * held.nbytes).from_address(held.data_ptr())
        data = np.frombuffer(
            memoryview(raw), np.uint8
        )  # `.numpy()` of the tensor would fix its size
        if len(data) > _SHORT:
            words = data[: len(data) // 8 * 8].view(np.uint64)
            whole = len(words) // _ROW * _ROW
            sums = words[:whole].reshape(-1, _ROW).sum(0, dtype=np.uint64)
            sums[: len(words) - whole] += words[whole:]
            seen.update(sums.tobytes())
            data = data[len(words) * 8 :]
        seen.update(data.tobytes())
    return seen.digest()
