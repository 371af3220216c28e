"""Means of large maps, axis by axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import export
import zoo
from export.graph.means import average_by_axis


def mean(op: str, shape: list[Any], axes: list[int], **settings: Any) -> onnx.ModelProto:
    rank = 4 if settings.get("keepdims", 1) else 4 - len(axes)
    names = ["x"] if op == "GlobalAveragePool" else ["x", "axes"]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **settings)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def rewritten(proto: onnx.ModelProto) -> list[str]:
    shape = [side.dim_value or side.dim_param for side in
             proto.graph.input[0].type.tensor_type.shape.dim]  # fmt: skip
    average_by_axis(proto.graph, {"x": tuple(shape)})
    onnx.checker.check_model(proto)
    return [node.op_type for node in proto.graph.node]


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(
    ("op", "axes", "settings", "numpy_axes"),
    [
        ("ReduceMean", [2, 3], {"keepdims": 0}, (2, 3)),
        ("ReduceMean", [-1, -2], {"keepdims": 1}, (2, 3)),
        ("ReduceMean", [3, 0, 2], {"keepdims": 0}, (0, 2, 3)),
        ("GlobalAveragePool", [], {"keepdims": 1}, (2, 3)),
    ],
)
@pytest.mark.parametrize("shape", [[2, 9, 112, 112], ["batch", "channels", "height", "width"]])
def test_the_mean_of_equal_values_is_their_value(
    op: str, axes: list[int], settings: dict[str, int], numpy_axes: tuple[int, ...],
    shape: list[Any],
) -> None:  # fmt: skip
    own = {} if op == "GlobalAveragePool" else settings
    proto = mean(op, shape, axes, **own)
    x = np.full((2, 9, 112, 112), 2.1234567, np.float32)
    x *= np.linspace(0.1, 1.7, 9, dtype=np.float32)[:, None, None]
    expected = x.astype(np.float64).mean(numpy_axes, keepdims=bool(settings["keepdims"]))
    assert rewritten(proto) == ["ReduceMean"] * len(numpy_axes)
    found = run(proto, x)
    assert found.shape == expected.shape
    assert np.abs(found / expected - 1).max() < 1e-6  # at once: up to 3e-5


@pytest.mark.parametrize(
    ("shape", "axes"), [([2, 9, 14, 14], [2, 3]), ([2, 9, 112, 112], [3]), (["b", 9, 7, 7], [2, 3])]
)
def test_small_means_and_those_of_one_axis_stay(shape: list[Any], axes: list[int]) -> None:
    proto = mean("ReduceMean", shape, axes)
    before = proto.SerializeToString()
    rewritten(proto)
    assert proto.SerializeToString() == before


@pytest.mark.parametrize("seed", [0, 3])
def test_a_plain_network_whose_only_pooling_is_of_a_large_map_exports(
    seed: int, tmp_path: Path
) -> None:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()
    report = export.to_onnx(net, tmp_path / "net.onnx", input=zoo.InputSpec(size=(224, 224)))
    assert report
