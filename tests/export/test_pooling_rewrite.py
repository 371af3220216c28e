"""Maximum pooling written as slices and maxima."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.graph.pools import spell_out_max_pools


def pool(**settings: Any) -> onnx.ModelProto:
    node = helper.make_node("MaxPool", ["x"], ["y"], **settings)
    shape = ["batch", 3, "height", "width"]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, "rows", "columns"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2]},
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 2], "strides": [1, 3], "pads": [2, 0, 1, 1]},
        {"kernel_shape": [1, 4]},
    ],
    ids=["stem", "unpadded", "halves", "oblong", "rows-alone"],
)
@pytest.mark.parametrize("size", [(8, 8), (7, 11)])
def test_the_maxima_are_the_same(settings: dict[str, Any], size: tuple[int, int]) -> None:
    x = -np.abs(np.random.default_rng(0).standard_normal((2, 3, *size), dtype=np.float32))
    proto = pool(**settings)
    expected = run(proto, x)  # of negative values: a border of zeros would show
    spell_out_max_pools(proto.graph)
    assert "MaxPool" not in {node.op_type for node in proto.graph.node}
    assert np.array_equal(run(proto, x), expected)


@pytest.mark.parametrize(
    "settings", [{"dilations": [2, 2]}, {"ceil_mode": 1}, {"auto_pad": "SAME_UPPER"}]
)
def test_other_pools_stay(settings: dict[str, Any]) -> None:
    proto = pool(kernel_shape=[2, 2], strides=[2, 2], **settings)
    before = proto.SerializeToString()
    spell_out_max_pools(proto.graph)
    assert proto.SerializeToString() == before
