"""Reading protobuf without protobuf: equal to onnx's own serializer, and strict about lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.parity.stored import list_test_data, read_test_data
from export.runtime.wire import MAX_FIELDS, read_model_facts, read_tensor
from zoo.errors import IntegrityError
from zoo.files.processes import run_python

DTYPES = ["float32", "float64", "float16", "int64", "int32", "uint8", "int8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4), (1, 1, 1, 1, 1, 1, 1, 2)])
def test_tensors_are_read_as_onnx_wrote_them(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    name, found = read_tensor(numpy_helper.from_array(array, "näme").SerializeToString())
    assert name == "näme"
    assert found.dtype == array.dtype
    assert found.shape == shape
    assert np.array_equal(found, array)
    assert found.flags.writeable


def test_every_cut_of_a_tensor_is_refused() -> None:
    data = numpy_helper.from_array(np.ones((2, 3), np.float32), "x").SerializeToString()
    for end in range(len(data)):
        with pytest.raises(IntegrityError, match="not a readable ONNX message"):
            read_tensor(data[:end])


def test_random_changes_never_crash() -> None:
    generator = np.random.default_rng(1)
    good = numpy_helper.from_array(np.ones((4, 5)), "x").SerializeToString()
    model = _model([helper.make_node("Relu", ["x"], ["y"])]).SerializeToString()
    refused = 0
    for _ in range(3000):
        for data, read in ((good, read_tensor), (model, read_model_facts)):
            changed = bytearray(data)
            for place in generator.integers(0, len(data), 2):
                changed[place] = generator.integers(0, 256)
            try:
                read(bytes(changed))
            except IntegrityError:
                refused += 1
    assert refused > 1000


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (TensorProto(dims=[2], data_type=1, raw_data=b"1234"), "4 bytes"),
        (TensorProto(dims=[1 << 40], data_type=1, raw_data=b"1234"), "the shape"),
        (TensorProto(dims=[1] * 9, data_type=1, raw_data=b"1234"), "the shape"),
        (TensorProto(dims=[-1], data_type=1, raw_data=b"1234"), "the shape"),
        (TensorProto(dims=[1], data_type=8, raw_data=b"1234"), "data type 8"),
        (TensorProto(dims=[1], data_type=1, float_data=[1.0]), "raw bytes"),
        (TensorProto(dims=[1], data_type=1), "no data"),
    ],
)
def test_what_is_not_a_plain_tensor_is_refused(tensor: TensorProto, why: str) -> None:
    with pytest.raises(IntegrityError, match=why):
        read_tensor(tensor.SerializeToString())


def test_a_number_of_more_than_64_bits_is_refused() -> None:
    with pytest.raises(IntegrityError, match="64 bits"):
        read_tensor(b"\x10" + b"\xff" * 9 + b"\x7f")


def _model(nodes: list[Any], **opsets: int) -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 3, 8, 8]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:])
    wanted = [helper.make_opsetid("", 20)]
    wanted += [helper.make_opsetid(domain, number) for domain, number in opsets.items()]
    return helper.make_model(graph, opset_imports=wanted, ir_version=10)


def test_facts_of_a_model_include_subgraphs_and_functions() -> None:
    inner = helper.make_graph(
        [helper.make_node("Odd", ["x"], ["z"], domain="own")], "inner", [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    model = _model([node], own=3)
    function = helper.make_function(
        "other", "F", ["a"], ["b"], [helper.make_node("Sin", ["a"], ["b"])],
        [helper.make_opsetid("", 20)],
    )  # fmt: skip
    model.functions.append(function)
    facts = read_model_facts(model.SerializeToString())
    assert facts.ir_version == 10
    assert facts.opsets == {"": 20, "own": 3}
    assert facts.operators == {("", "If"), ("own", "Odd"), ("", "Sin")}
    assert facts.functions == {("other", "F")}
    assert facts.external == ()


def test_locations_of_external_data_are_found() -> None:
    model = _model([helper.make_node("Relu", ["x"], ["y"])])
    tensor = TensorProto(name="w", dims=[1], data_type=1, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    model.graph.initializer.append(tensor)
    assert read_model_facts(model.SerializeToString()).external == ("../secret",)


def test_facts_of_an_exported_file_agree_with_onnx(exported: Path) -> None:
    path = exported / "onnx" / "model.onnx"
    model, facts = onnx.load(path), read_model_facts(path.read_bytes())
    assert facts.operators == {(n.domain, n.op_type) for n in model.graph.node}
    assert facts.opsets == {e.domain: e.version for e in model.opset_import}


def test_stored_references_survive_the_round_trip(exported: Path) -> None:
    found = read_test_data(exported)
    folder = exported / "test_data_set_0"
    tensor = onnx.TensorProto.FromString((folder / "output_0.pb").read_bytes())
    assert found.logits.dtype == np.float64
    assert np.array_equal(found.logits, numpy_helper.to_array(tensor))
    assert found.size == (32, 32)
    assert found.output == "logits"


def test_sets_of_test_data_are_listed_in_numerical_order() -> None:
    paths = [f"test_data_set_{n}/input_0.pb" for n in (10, 2, 0)] + ["x/test_data_set_1/input_0.pb"]
    assert list_test_data(paths) == ["test_data_set_0", "test_data_set_2", "test_data_set_10"]


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes in protobuf's encoding."""
    size, length = len(content), b""
    while size >= 128:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def test_graphs_inside_graphs_without_end_are_refused() -> None:
    """Bytes alone: a graph in an attribute of a node of a graph, 2,000 times."""
    data = b""
    for _ in range(2000):
        for number in (6, 5, 1):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            data = _field(number, data)
    with pytest.raises(IntegrityError, match="not a readable ONNX message"):
        read_model_facts(_field(7, data))


def test_data_elsewhere_are_found_in_attributes_and_sparse_tensors() -> None:
    def tensor(place: str) -> TensorProto:
        found = TensorProto(name="w", dims=[1], data_type=1, data_location=TensorProto.EXTERNAL)
        found.external_data.add(key="location", value=place)
        return found

    node = helper.make_node("Constant", [], ["c"], value=tensor("in-attribute"))
    deep = helper.make_graph([], "inner", [], [], initializer=[tensor("in-subgraph")])
    branch = helper.make_node("If", ["c"], ["y"], then_branch=deep)
    model = _model([node, branch])
    model.graph.sparse_initializer.add(values=tensor("sparse"), indices=tensor("indices"))
    found = read_model_facts(model.SerializeToString()).external
    assert sorted(found) == ["in-attribute", "in-subgraph", "indices", "sparse"]


# a process of its own: the high-water mark of this one hides what is added below it
GROWTH = """
import pathlib, sys
from export.runtime.wire import read_model_facts

def peak():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

data, before = sys.stdin.buffer.read(), peak()
read_model_facts(data)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_a_file_of_empty_nodes_costs_no_memory() -> None:
    """100,000 nodes of two bytes each: walked as an onnx.ModelProto, 300 times the file."""
    data = _field(7, b"\x0a\x00" * 100_000)
    done = run_python("-c", GROWTH, input=data, capture_output=True, check=True)
    assert int(done.stdout) < 8 * 1024  # KiB


def test_a_file_of_empty_nodes_ends_after_a_bounded_number_of_them() -> None:
    data = _field(7, b"\x0a\x00" * (MAX_FIELDS + 1))
    with pytest.raises(IntegrityError, match="more than 500,000 fields"):
        read_model_facts(data)
