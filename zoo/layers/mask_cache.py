"""Constant tensors that depend on sizes only, built once instead of in every call."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from .exporting import is_recorded

_KEPT = 16  # results per function


def kept_on_cpu(build: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Remember the last results of `build(*key, dtype, device)`; whoever gets one must not write.

    Nothing is kept away from the CPU, where another stream may read what is not yet computed, nor
    where a program is traced or transformed, whose tensors are not values.
    """
    results: dict[Hashable, Tensor] = {}
    lock = threading.Lock()

    @functools.wraps(build)
    def get(*arguments: Hashable) -> Tensor:
        device = arguments[-1]
        if is_recorded() or device.type != "cpu":
            return build(*arguments)
        found = results.get(arguments)
        if found is not None:
            return found
        with torch.inference_mode(False), torch.no_grad():  # training may come after inference
            found = build(*arguments)
        if type(found) is Tensor and torch.func.debug_unwrap(found) is found:
            with lock:
                while len(results) >= _KEPT:
                    del results[next(iter(results))]
                results[arguments] = found
        return found

    return get
