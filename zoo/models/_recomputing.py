"""Blocks whose inside is recomputed in backward instead of kept.

Where we differ from timm on purpose: blocks, not models, know of it, so that it holds wherever they
are called; and recomputing does not update the running statistics of BatchNorms a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..layers.exporting import is_exporting


def recompute(block: nn.Module, enable: bool) -> None:
    """Switch it on or off for a block, whose own `forward`, if it has one, is wrapped or put back.

    What others wrapped around ours in the meantime stays: ours inside then only calls on.
    """
    block.__dict__.pop("_recomputing", None)
    ours = block.__dict__.get("forward")
    if isinstance(ours, partial) and ours.func is _checkpointed:
        del block.forward
        if (own := ours.args[1]) is not None:
            block.forward = own
    if enable:
        block._recomputing = object()
        own = block.__dict__.get("forward")
        block.forward = partial(_checkpointed, block, own, block._recomputing)


def _checkpointed(
    block: nn.Module, own: Callable[..., Any] | None, key: object, /, *args: Any, **kwargs: Any
) -> Any:
    """What a block's `forward` becomes: `own`, or that of its class, run under a checkpoint for as
    long as `key` is the block's.
    """
    run = partial(type(block).forward, block) if own is None else own
    on = getattr(block, "_recomputing", None) is key and torch.is_grad_enabled()
    if not on or torch.jit.is_tracing() or is_exporting():
        return run(*args, **kwargs)
    if not torch.compiler.is_compiling():  # compiled code does not update statistics twice
        kwargs["context_fn"] = partial(_contexts, block)
    return checkpoint(run, *args, use_reentrant=False, **kwargs)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _without_statistics(block)


@contextmanager
def _without_statistics(block: nn.Module) -> Iterator[None]:
    """Running statistics are written into copies; what backward reads has the same form."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    kept = [dict(norm._buffers) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        norm._buffers.update({k: None if v is None else v.clone() for k, v in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)
