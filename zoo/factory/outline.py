"""Models in outline: every module, shape and name, and no memory for what is large.

What a file of others states is built this way first, so that a number in it cannot take the
machine's memory or time before anyone has seen that it is absurd.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ..errors import ConfigError
from ..weights.loading import Undrawn

_MADE, _DERIVED = 1 << 14, 1 << 18
"""Elements of the largest tensors that have values, for constructors that read them: those made of
numbers, and those made of other tensors."""
_MOST_CALLS = 60_000_000
"""By one constructor: some ten seconds. timm's slowest, MaxViT at 512 pixels, makes 44 million."""


def check_outline(make: Callable[[], nn.Module]) -> None:
    """See what `make` would build, before it is built.

    Raises: ConfigError for a model that does not fit the memory at hand, or whose constructor does
        not come to an end; as `make`.
    """
    model = outlined(make)
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    need = sum(tensor.nbytes for tensor in tensors.values())
    free = memory_at_hand()
    if need > free:
        raise ConfigError(
            f"the model would take {need / 2**30:.1f} GiB of memory, and "
            f"{free / 2**30:.1f} GiB are free; give smaller sizes, or use a machine with more",
            code="too_large",
        )


def outlined(make: Callable[[], nn.Module]) -> nn.Module:
    """What `make` builds, where only small tensors have values. The generators are untouched.

    Raises: ConfigError for a constructor that does not come to an end; as `make`.
    """
    with torch.random.fork_rng(devices=[]), _counted_calls(), Undrawn(), Outline():
        return make()


def memory_at_hand() -> int:
    """Bytes that can be had without pushing other programs out of memory."""
    try:
        with open("/proc/meminfo") as file:
            stated = dict(line.split(":", 1) for line in file)
        return int(stated["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Outline(TorchDispatchMode):
    """Operators whose tensors are all small are run; the others have shapes alone."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in given if isinstance(leaf, Tensor)]
        real = not any(tensor.is_meta for tensor in tensors)
        if func._schema.is_mutable and torch.Tag.inplace_view not in func.tags:
            return func(*args, **kwargs) if real else args[0]  # values alone
        most = _DERIVED if tensors else _MADE
        if real and _largest(given) <= most:
            return func(*args, **kwargs)
        try:
            shaped = func(*tree_map(_to_meta, args), **tree_map(_to_meta, kwargs))
        except (NotImplementedError, RuntimeError):
            if not real:
                raise
            return func(*args, **kwargs)  # what comes out depends on values
        sizes = [leaf.numel() for leaf in tree_leaves(shaped) if isinstance(leaf, Tensor)]
        return func(*args, **kwargs) if real and max(sizes, default=0) <= most else shaped


def _largest(given: list[Any]) -> float:
    """An upper bound for the elements that an operator makes of tensors and numbers. torch knows
    better, and loads its compiler to tell.
    """
    tensors = {leaf.shape: leaf.numel() for leaf in given if isinstance(leaf, Tensor)}
    numbers = (abs(leaf) for leaf in given if isinstance(leaf, int | float))
    return math.prod(max(1, size) for size in (*tensors.values(), *numbers))


def _to_meta(value: Any) -> Any:
    if isinstance(value, Tensor) and not value.is_meta:
        return value.to("meta")
    return torch.device("meta") if isinstance(value, torch.device) else value


@contextmanager
def _counted_calls() -> Iterator[None]:
    """Refuse a constructor that makes too many calls, which is how one without end is known."""
    calls, before = 0, sys.getprofile()

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > _MOST_CALLS:
            raise ConfigError(
                "the constructor does not come to an end in reasonable time; give smaller sizes",
                code="too_large",
            )

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(before)
