"""The state of the process that exports and checks run in, whatever the caller set. Loads torch
only where it is there: files are verified without it.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_KINDS = ("cpu", "cuda")  # of devices that autocast knows


@contextlib.contextmanager
def clean_room() -> Iterator[None]:
    """Without autocast and inference mode, with float32 and the CPU as defaults; afterwards all is
    as it was. Also a decorator.
    """
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    dtype = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        for kind in _KINDS:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
        yield


def uncompiled(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` was given, or the model itself."""
    inner = getattr(model, "_orig_mod", None)
    return model if inner is None else inner
