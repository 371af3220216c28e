"""What a long piece of work is doing, told to whoever listens; to nobody by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, str], None]

_listener: ContextVar[Listener | None] = ContextVar("stage_listener", default=None)


def stage(of: str, what: str) -> None:
    """Say that a stage begins.

    Args:
        of: a file or a part of the work, e.g. "onnx/model.onnx".
        what: is done with it now, e.g. "comparing with float64 at 224x224".
    """
    listener = _listener.get()
    if listener is not None:
        listener(of, what)


@contextmanager
def stages_told_to(listener: Listener | None) -> Iterator[None]:
    """`listener(of, what)` is called at the start of every stage inside; None: nobody is."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
