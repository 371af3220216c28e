"""The state of the process that exports and checks run in, whatever the caller set. Loads torch
only where it is there: files are verified without it.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, ZooError

if TYPE_CHECKING:
    from torch import nn

_PARALLEL = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")
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


def unwrapped(model: nn.Module) -> nn.Module:
    """The module that torch.compile, DataParallel or DistributedDataParallel was given."""
    inner: Any = model
    while True:
        if hasattr(inner, "_orig_mod"):
            inner = inner._orig_mod
        elif type(inner).__name__ in _PARALLEL and hasattr(inner, "module"):
            inner = inner.module
        else:
            found: nn.Module = inner
            return found


@contextlib.contextmanager
def own_failure(model: nn.Module, shape: Sequence[int]) -> Iterator[None]:
    """Whatever a model of others raises on images of this shape (C, H, W), as a ConfigError."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        said = f": {error}" if str(error) else ""
        raise ConfigError(
            f"{type(model).__name__} itself fails on images of {' x '.join(map(str, shape))} "
            f"(channels, height, width) with {type(error).__name__}{said[:300]}; choose a "
            "size that it takes: --img-size H,W, or --set img_size=N where it is built for one",
            code="model_input",
        ) from error
