"""What torch made once is taken again for the same module only (tests/graphs.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn


class _Scaled(nn.Module):
    def __init__(self, scale: float = 2.0) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.linear(x)


def _model(**changes: Any) -> _Scaled:
    torch.manual_seed(0)
    return _Scaled(**changes).eval().requires_grad_(False)


def _program(model: nn.Module, least: int = 1) -> Any:
    shapes = ({0: torch.export.Dim("batch", min=least)},)
    return torch.export.export(model, (torch.zeros(2, 4),), dynamic_shapes=shapes)


def _graph(program: Any, opset: int = 23) -> Any:
    return torch.onnx.export(program, opset_version=opset, external_data=False, verbose=False)


def test_the_same_module_is_captured_and_translated_once() -> None:
    first, second = _program(_model()), _program(_model())
    assert first is second
    assert _graph(first) is _graph(second)
    assert _graph(first).model_proto is not _graph(first).model_proto


def _other_weight(model: _Scaled) -> nn.Module:
    model.linear.weight[0, 0] += 1e-7
    return model


def _local() -> nn.Module:
    """Of a class that cannot be written down, so that nothing is known of it."""

    class Local(_Scaled):
        pass

    torch.manual_seed(0)
    return Local().eval()


class _Moved(_Scaled):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.scale


OTHERS: dict[str, Callable[[], Any]] = {
    "a weight": lambda: _program(_other_weight(_model())),
    "a setting": lambda: _program(_model(scale=3.0)),
    "the mode": lambda: _program(_model().train()),
    "the code": lambda: _program(_Moved().eval()),
    "a bound": lambda: _program(_model(), least=2),
    "a local class": lambda: _program(_local()),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_module_is_captured_anew(what: str) -> None:
    known = _program(_model())
    assert OTHERS[what]() is not known


def test_other_settings_are_translated_anew() -> None:
    program = _program(_model())
    assert _graph(program, 20).model_proto.opset_import[0].version == 20
    assert _graph(program, 23).model_proto.opset_import[0].version == 23


@pytest.mark.exports_anew
def test_what_is_marked_is_made_every_time() -> None:
    first, second = _program(_model()), _program(_model())
    assert first is not second
    assert _graph(first) is not _graph(first)
