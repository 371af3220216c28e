"""Rewrites of exported graphs: the same numbers before and after, and what is left of the graph."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graph.rewrites import fold_constants, simplify

HEADS, WIDTH, TOKENS = 2, 8, 6


def model(
    nodes: list, constants: dict[str, np.ndarray], shapes: dict[str, list]
) -> onnx.ModelProto:
    """x (batch, 6, 8) -> y, with the shapes of the values between."""
    info = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in {"x": ["batch", TOKENS, WIDTH], "y": None, **shapes}.items()
    }
    graph = helper.make_graph(
        nodes, "g", [info.pop("x")], [info.pop("y")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
        value_info=list(info.values()),
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def run(proto: onnx.ModelProto, batch: int = 3) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(0).standard_normal((batch, TOKENS, WIDTH), dtype=np.float32)
    return session.run(None, {"x": x})[0]


def operators(proto: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in proto.graph.node)


def attention(scale: np.ndarray | None = None) -> onnx.ModelProto:
    """Self-attention of 2 heads as PyTorch exports it: heads transposed, merged at the end."""
    nodes, shapes = [], {}
    merged, split = ["batch", TOKENS, WIDTH], ["batch", TOKENS, HEADS, WIDTH // HEADS]
    first = ["batch", HEADS, TOKENS, WIDTH // HEADS]
    for name in "qkv":
        nodes += [
            helper.make_node("MatMul", ["x", f"w{name}"], [f"{name}0"]),
            helper.make_node("Reshape", [f"{name}0", "split"], [f"{name}1"]),
            helper.make_node("Transpose", [f"{name}1"], [name], perm=[0, 2, 1, 3]),
        ]
        shapes |= {f"{name}0": merged, f"{name}1": split, name: first}
    nodes.append(helper.make_node("Attention", ["q", "k", "v"], ["a0"], scale=0.3))
    nodes.append(helper.make_node("Mul", ["a0", "scale"], ["a"]))
    nodes += [
        helper.make_node("Transpose", ["a"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["t", "merged"], ["y"]),
    ]
    shapes |= {"a0": first, "a": first, "t": split, "y": merged}
    generator = np.random.default_rng(1)
    weights = {
        f"w{name}": generator.standard_normal((WIDTH, WIDTH), dtype=np.float32) for name in "qkv"
    }
    ones = np.ones((HEADS, 1, 1), np.float32)
    constants = {
        **weights,
        "scale": ones if scale is None else scale,
        "split": np.array([-1, TOKENS, HEADS, WIDTH // HEADS]),
        "merged": np.array([-1, TOKENS, WIDTH]),
    }
    return model(nodes, constants, shapes)


@pytest.mark.parametrize("batch", [1, 3])
def test_attention_takes_tokens_as_they_are(batch: int) -> None:
    proto = attention()
    expected = run(proto, batch)
    simplify(proto)
    onnx.checker.check_model(proto, full_check=True)
    assert operators(proto) == {"MatMul": 3, "Attention": 1}
    np.testing.assert_allclose(run(proto, batch), expected, atol=1e-6)


def test_attention_whose_heads_are_scaled_keeps_its_heads() -> None:
    proto = attention(np.array([1.0, 0.5], np.float32).reshape(HEADS, 1, 1))
    expected = run(proto)
    simplify(proto)
    assert operators(proto)["Mul"] == 1
    assert operators(proto)["Transpose"] == 4
    np.testing.assert_allclose(run(proto), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["q", "k"])
def test_attention_of_heads_whose_number_is_not_known_keeps_them(name: str) -> None:
    proto = attention()
    expected = run(proto)
    (heads,) = (value for value in proto.graph.value_info if value.name == name)
    heads.type.tensor_type.shape.dim[1].dim_param = "heads"
    simplify(proto)
    assert operators(proto)["Transpose"] == 4
    np.testing.assert_allclose(run(proto), expected, atol=1e-6)


def test_constants_are_computed_once() -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("Mul", ["wt", "s"], ["ws"]),
        helper.make_node("MatMul", ["x", "ws"], ["y"]),
    ]
    w = np.random.default_rng(1).standard_normal((WIDTH, WIDTH), dtype=np.float32)
    proto = model(nodes, {"w": w, "s": np.full(WIDTH, 0.5, np.float32)}, {})
    expected = run(proto)
    simplify(proto)
    assert operators(proto) == {"MatMul": 1}
    assert [entry.name for entry in proto.graph.initializer] == ["ws"]
    np.testing.assert_allclose(run(proto), expected, atol=1e-6)


def test_a_constant_that_would_grow_the_file_is_left_to_the_runtime() -> None:
    row = np.ones((1, 400), np.float32)
    nodes = [
        helper.make_node("Mul", ["row", "column"], ["table"]),
        helper.make_node("ReduceSum", ["table"], ["total"], keepdims=0),
        helper.make_node("Add", ["x", "total"], ["y"]),
    ]
    proto = model(nodes, {"row": row, "column": row.T.copy()}, {})
    before = proto.ByteSize()
    fold_constants(proto)
    assert operators(proto) == {"Mul": 1, "ReduceSum": 1, "Add": 1}
    assert proto.ByteSize() <= before


@pytest.mark.parametrize("shape", [(WIDTH,), (1, 1, 1)])
def test_a_product_with_ones_is_left_out(shape: tuple[int, ...]) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Mul", ["r", "ones"], ["m"]),
        helper.make_node("Neg", ["m"], ["y"]),
    ]
    shapes = {"r": ["batch", TOKENS, WIDTH], "m": ["batch", TOKENS, WIDTH]}
    proto = model(nodes, {"ones": np.ones(shape, np.float32)}, shapes)
    expected = run(proto)
    simplify(proto)
    assert operators(proto) == {"Relu": 1, "Neg": 1}
    np.testing.assert_array_equal(run(proto), expected)


def test_a_product_with_ones_that_broadcasts_stays() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Mul", ["r", "ones"], ["m"]),
        helper.make_node("Neg", ["m"], ["y"]),
    ]
    shapes = {"r": ["batch", TOKENS, WIDTH]}
    proto = model(nodes, {"ones": np.ones((4, 1, 1, 1), np.float32)}, shapes)
    expected = run(proto)
    simplify(proto)
    assert operators(proto)["Mul"] == 1
    assert run(proto).shape == expected.shape


@pytest.mark.parametrize("opset", [21, 23])
def test_a_group_norm_of_one_group_is_spelt_out(opset: int) -> None:
    from export.runtime.placement import predict_placement

    shape = [None, 2, 3, 8]
    nodes = [
        helper.make_node("Reshape", ["x", "map"], ["m"]),
        helper.make_node("GroupNormalization", ["m", "s", "b"], ["y"], num_groups=1, epsilon=0.1),
    ]
    generator = np.random.default_rng(1)
    s, b = generator.standard_normal((2, 2), dtype=np.float32)
    proto = model(nodes, {"map": np.array([-1, 2, 3, 8]), "s": s, "b": b}, {"m": shape, "y": shape})
    proto.opset_import[0].version = opset
    expected = run(proto)
    simplify(proto)
    onnx.checker.check_model(proto, full_check=True)
    assert operators(proto)["GroupNormalization"] == 0
    assert predict_placement(proto)
    np.testing.assert_allclose(run(proto), expected, atol=2e-6)
