"""Errors per node: exact where nothing rounds, and the culprit is named where something does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.parity.per_node import NodeError, NodeErrors, measure_nodes, to_float64
from export.parity.stored import read_test_data
from zoo.errors import ExportError


def model_of(nodes: list[Any], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", kind, ["b", 1, 4, 4])
    y = helper.make_tensor_value_info("y", kind, ["b", 1, 4, 4])
    big = numpy_helper.from_array(np.array([4096.3], np.float32), "big")
    graph = helper.make_graph(nodes, "g", [x], [y], [big])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def node(op: str, inputs: str, output: str) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=f"{op}_{output}")


BATCH = np.random.default_rng(0).random((2, 1, 4, 4), dtype=np.float32)


def test_the_node_that_cancels_is_the_first_beyond_the_budget() -> None:
    """(x + 4096.3) - 4096.3 keeps x with the rounding of a number near 4096: 2.4e-4."""
    nodes = [node("Relu", "x", "a"), node("Add", "a big", "c"), node("Sub", "c big", "y")]
    found = measure_nodes(model_of(nodes), BATCH)
    assert [n.op for n in found.nodes] == ["Relu", "Add", "Sub"]
    assert found.nodes[0].max_abs_error == 0
    assert found.nodes[1].relative_error < 1e-7
    assert not found
    assert found.first_over is not None
    assert found.first_over.name == "Sub_y"
    assert 1e-5 < found.first_over.relative_error <= 2.5e-4


def test_exact_graphs_stay_within_any_budget() -> None:
    found = measure_nodes(model_of([node("Relu", "x", "a"), node("Neg", "a", "y")]), BATCH, 0.0)
    assert found
    assert found.histogram() == [{"range": "exact", "nodes": 2}]


def test_the_histogram_counts_decades() -> None:
    errors = (0.0, 3e-8, 5e-8, 2e-6, math.nan)
    nodes = tuple(NodeError(str(i), "Add", error, 1.0) for i, error in enumerate(errors))
    found = NodeErrors(nodes, 1e-5)
    assert {entry["range"]: entry["nodes"] for entry in found.histogram()} == {
        "exact": 1, "1e-8 to 1e-7": 2, "1e-6 to 1e-5": 1, "NaN or infinite": 1,
    }  # fmt: skip
    assert found.first_over is nodes[-1]


def test_the_float64_graph_equals_torch_in_float64(exported: Path) -> None:
    from onnx.reference import ReferenceEvaluator

    stored = read_test_data(exported)
    graph = to_float64(onnx.load(exported / "onnx" / "model.onnx"))
    batch = stored.inputs.batch[::3].astype(np.float64)
    (logits,) = ReferenceEvaluator(graph).run(None, {"pixel_values": batch})
    assert logits.dtype == np.float64
    # what is left is the float32 rounding of constants that the exporter folded
    assert np.abs(logits - stored.logits[::3]).max() < 1e-6


def test_a_trained_model_stays_within_the_budget_at_every_node(exported: Path) -> None:
    batch = read_test_data(exported).inputs.batch[::3]
    found = measure_nodes(exported / "onnx" / "model.onnx", batch)
    assert found
    assert len(found.nodes) > 50
    content = found.to_dict()
    assert content["first_over"] is None
    assert sum(entry["nodes"] for entry in content["histogram"]) == len(found.nodes)


def test_other_precisions_are_refused() -> None:
    with pytest.raises(ExportError, match="float32 graphs"):
        measure_nodes(model_of([node("Relu", "x", "y")], TensorProto.FLOAT16), BATCH)


def test_of_a_cast_only_the_type_becomes_float64() -> None:
    """FLOAT is 1, and so are other attributes."""
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT, saturate=1),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.INT64),
        helper.make_node("Softmax", ["b"], ["y"], axis=1),
    ]
    found = [
        {a.name: a.i for a in made.attribute} for made in to_float64(model_of(nodes)).graph.node
    ]
    assert found == [
        {"to": TensorProto.DOUBLE, "saturate": 1}, {"to": TensorProto.INT64}, {"axis": 1},
    ]  # fmt: skip
