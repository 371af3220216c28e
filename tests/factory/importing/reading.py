"""Checkpoints in memory; reading them, or the error, which must be fit to print."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from zoo.errors import ZooError
from zoo.weights.foreign.reading import read_checkpoint


def saved(value: Any, *, legacy: bool = False, protocol: int = 2) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


def read(data: bytes, **options: Any) -> dict[str, torch.Tensor]:
    return read_checkpoint(data, "file.pth", **options).tensors


def refused(data: bytes) -> ZooError:
    """The error for these bytes. No message recommends unsafe loading, and all are short."""
    with pytest.raises(ZooError) as caught:
        read(data)
    text = str(caught.value)
    assert "weights_only" not in text
    assert "safe_globals" not in text
    assert len(text) <= 300
    return caught.value


GOOD = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}
