"""What a foreign ONNX file would cost is found before it runs; what has no bound is refused."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from PIL import Image

from export.runtime.cost import require_bounded_cost
from export.runtime.model_files import read_model
from export.runtime.opening import open_file, open_onnx, open_predictor, open_session
from zoo.catalog.weights_records import InputSpec
from zoo.errors import ConfigError, ModelFileError

node = helper.make_node
Weights = dict[str, object]


def save(
    path: Path, nodes: list[NodeProto], weights: Weights, functions: int = 0, kind: int = 1
) -> Path:
    """A model x -> y on RGB images of 8 x 8, functions that each call the last twice."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", TensorProto.FLOAT, ["b", 3, 8, 8])],
        [info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    domains = {"": 20, "f": 1, "com.microsoft": 1}
    opsets = [helper.make_opsetid(*domain) for domain in domains.items()]
    calls = [node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["c"])]
    written = []
    for number in range(functions):
        written.append(helper.make_function("f", f"F{number}", ["a"], ["c"], calls, opsets))
        called = f"F{number}"
        calls = [node(called, [i], [o], domain="f") for i, o in (("a", "b"), ("b", "c"))]
    model = helper.make_model(graph, opset_imports=opsets, functions=written, ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def body(*nodes: NodeProto) -> GraphProto:
    """Of a Loop that carries v to w."""
    info = helper.make_tensor_value_info
    taken = [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, [])]
    taken.append(info("v", TensorProto.FLOAT, None))
    return helper.make_graph(
        list(nodes), "b", taken, [taken[1], info("w", TensorProto.FLOAT, None)]
    )


def loop(graph: GraphProto, source: str = "x", result: str = "y") -> NodeProto:
    return node("Loop", ["m", "t", source], [result], body=graph)


def chain(kind: str, length: int, **attributes: object) -> list[NodeProto]:
    """A node applied to its own result, and the sum of the last one."""
    second = {"Tile": ["r"], "Concat": None, "MatMul": None}[kind]
    nodes, last = [], "x"
    for number in range(length):
        nodes.append(node(kind, [last, *(second or [last])], [f"n{number}"], **attributes))
        last = f"n{number}"
    return [*nodes, node("ReduceSum", [last], ["y"], keepdims=0)]


def nested(depth: int) -> list[NodeProto]:
    """An If in the branches of an If, and so on: 2^depth ends."""
    names = iter(range(1 << (depth + 2)))

    def branch(left: int) -> GraphProto:
        out = f"o{next(names)}"
        inner = node("Relu", ["x"], [out])
        if left:
            inner = choice(left - 1, out)
        info = helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
        return helper.make_graph([inner], f"g{out}", [], [info])

    def choice(left: int, out: str) -> NodeProto:
        return node("If", ["k"], [out], then_branch=branch(left), else_branch=branch(left))

    nodes = [node("ReduceSum", ["x"], ["s"], keepdims=0), node("Greater", ["s", "zero"], ["k"])]
    return [*nodes, choice(depth, "y")]


TRUE, ZERO = {"t": np.array(True)}, {"zero": np.float32(0)}
RELU = node("Relu", ["v"], ["w"])
PIXELS = [node("ReduceSum", ["x"], ["s"], keepdims=0), node("Cast", ["s"], ["m"], to=7)]
COLUMN = [node("Reshape", ["x", "flat"], ["v"]), node("Tile", ["v", "many"], ["a"])]
INTEGERS = [node("Cast", ["x"], ["i"], to=7), node("Neg", ["one"], ["n"])]
SUM = [node("ReduceSum", ["q"], ["s"], keepdims=0), node("Add", ["x", "s"], ["y"])]
COLUMNS = {"col": np.array([-1, 1]), "row": np.array([1, -1])}
BOMBS: dict[str, tuple[list[NodeProto], Weights, int, str]] = {
    "loop": ([loop(body(RELU))], {"m": np.int64(2**60), **TRUE}, 0, "loops of 1e.18 steps"),
    "loops in loops": (
        [loop(body(loop(body(RELU), "v", "w")))], {"m": np.int64(60_000), **TRUE}, 0, "4e.09 steps",
    ),
    "while": ([node("Loop", ["", "t", "x"], ["y"], body=body(RELU))], TRUE, 0, "constant count"),
    "loop of pixels": ([*PIXELS, loop(body(RELU))], TRUE, 0, "without a constant count"),
    "doubled in a loop": (
        [loop(body(node("Concat", ["v", "v"], ["w"], axis=0)))],
        {"m": np.int64(40), **TRUE}, 0, "changes the shape of what it carries",
    ),
    "tiles": (chain("Tile", 7), {"r": np.full(4, 10)}, 0, "GiB for one image"),
    "doubled": (chain("Concat", 40, axis=0), {}, 0, "GiB for one image"),
    "filled": (
        [node("ConstantOfShape", ["n"], ["q"]), *SUM], {"n": np.array([1 << 31])}, 0, "GiB",
    ),
    "size of pixels": (
        [
            *PIXELS,
            node("Unsqueeze", ["m", "at"], ["n"]),
            node("ConstantOfShape", ["n"], ["q"]),
            *SUM,
        ],
        {"at": np.array([0])}, 0, "ConstantOfShape, whose result has no known size",
    ),
    "outer product": (
        [
            node("Reshape", ["x", "col"], ["c"]),
            node("Tile", ["c", "many"], ["d"]),
            node("Reshape", ["d", "row"], ["r"]),
            node("Mul", ["d", "r"], ["y"]),
        ],
        {**COLUMNS, "many": np.array([1000, 1])}, 0, "GiB for one image",
    ),
    "padded": (
        [node("Conv", ["x", "k"], ["y"], pads=[1 << 20] * 4)],
        {"k": np.zeros((1, 3, 1, 1), np.float32)}, 0, "for one image",
    ),
    "products": (
        [
            node("ConstantOfShape", ["n"], ["z"]),
            *[node("MatMul", ["z", "z"], [f"z{i}"]) for i in range(60)],
            node("ReduceSum", ["z"], ["q"]), *SUM,
        ],
        {"n": np.array([4096, 4096])}, 0, "operations for one image|GiB for one image",
    ),
    "texts": (
        [
            node("Constant", [], ["t0"], value_strings=["a"]),
            *[node("StringConcat", [f"t{i}", f"t{i}"], [f"t{i + 1}"]) for i in range(40)],
            node("Equal", ["t40", "t40"], ["e"]), node("Cast", ["e"], ["q"], to=1), *SUM,
        ],
        {}, 0, "StringConcat, whose texts have no known length",
    ),
    "copied texts": (
        [
            node("Constant", [], ["t"], value_strings=["a" * 100_000]),
            node("Tile", ["t", "n"], ["u"]), node("Equal", ["u", "t"], ["e"]),
            node("Cast", ["e"], ["q"], to=1), *SUM,
        ],
        {"n": np.array([100_000])}, 0, "GiB for one image",
    ),
    "einsum": (
        [*COLUMN, node("Einsum", ["a", "a", "a", "a"], ["q"], equation="a,b,a,b->"), *SUM],
        {"flat": np.array([-1]), "many": np.array([1000])}, 0, "GiB for one image",
    ),
    "attention": (
        [
            *COLUMN, node("Reshape", ["a", "rows"], ["r"]),
            node("MultiHeadAttention", ["r", "r", "r"], ["q"], domain="com.microsoft", num_heads=1),
            *SUM,
        ],
        {"flat": np.array([-1]), "many": np.array([1000]), "rows": np.array([1, -1, 1])}, 0,
        "GiB for one image",
    ),
    "large kernel": (
        [
            node("ConstantOfShape", ["k"], ["kernel"]), node("ConstantOfShape", ["k2"], ["big"]),
            node("Conv", ["big", "kernel"], ["q"]), *SUM,
        ],
        {"k": np.array([1, 1, 2048, 2048]), "k2": np.array([1, 1, 4096, 4096])}, 0,
        "operations for one image",
    ),
    "samples": (
        [
            node(
                "RoiAlign", ["x", "rois", "first"], ["q"], output_height=2, output_width=2,
                sampling_ratio=40_000,
            ),
            *SUM,
        ],
        {"rois": np.array([[0, 0, 7, 7]], np.float32), "first": np.array([0])}, 0, "GiB",
    ),
    "samples by size": (
        [node("RoiAlign", ["x", "rois", "first"], ["q"]), *SUM],
        {"rois": np.array([[0, 0, 1e9, 1e9]], np.float32), "first": np.array([0])}, 0,
        "samples are not counted",
    ),
    "steps": (
        [
            node("ConstantOfShape", ["long"], ["r"]),
            node("LSTM", ["r", "wide", "deep"], ["q"], hidden_size=1024), *SUM,
        ],
        {
            "long": np.array([1 << 20, 1, 1]), "wide": np.zeros((1, 4096, 1), np.float32),
            "deep": np.zeros((1, 4096, 1024), np.float32),
        },
        0, "operations for one image",
    ),
    "negative": (
        [node("Pad", ["x", "less"], ["q"]), *SUM],
        {"less": np.array([0] * 6 + [-(1 << 30), 0])}, 0, "negative side",
    ),
    "division": (
        [*INTEGERS, node("Div", ["i", "n"], ["d"]), node("Cast", ["d"], ["y"], to=1)],
        {"one": np.int64(1)}, 0, "divides integers by a number that is not known, or by -1",
    ),
    "no bias": (
        [node("LayerNormalization", ["x", "k", ""], ["y"])], {"k": np.ones(8, np.float32)}, 0,
        "LayerNormalization whose bias is named and missing",
    ),
    "noise": (
        [node("RandomUniformLike", ["x"], ["q"], low=1.0, high=0.0), *SUM], {}, 0,
        "RandomUniformLike with impossible attributes",
    ),
    "spread": (
        [node("RandomNormalLike", ["x"], ["q"], scale=-1.0), *SUM], {}, 0,
        "RandomNormalLike with impossible attributes",
    ),
    "places": (
        [node("GatherND", ["x", "at"], ["q"], batch_dims=-5), *SUM], {"at": np.array([0])}, 0,
        "GatherND with impossible attributes|do not fit together",
    ),
    "ifs": (nested(9), ZERO, 0, "graphs inside graphs"),
    "functions": ([node("F29", ["x"], ["y"], domain="f")], {}, 30, "more than 20,000 nodes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_without_a_bound_is_refused(name: str, tmp_path: Path) -> None:
    nodes, weights, functions, why = BOMBS[name]
    path = save(tmp_path / "bomb.onnx", nodes, weights, functions)
    started = time.process_time()
    for opened in (open_onnx, open_session, open_file, open_predictor):
        with pytest.raises(ModelFileError, match=f"(?s)bomb.onnx .*({why})") as caught:
            opened(path)
        assert caught.value.code == "unbounded"
        assert "--trust-code" in str(caught.value)
        assert caught.value.exit_code == 3
        assert len(str(caught.value)) <= 300
    assert time.process_time() - started < 4


def test_a_function_of_two_kinds_is_counted_by_the_one_that_is_called(tmp_path: Path) -> None:
    path = save(tmp_path / "bomb.onnx", [node("F29", ["x"], ["y"], domain="f")], {}, 30)
    model = onnx.load(path)
    small = helper.make_function(
        "f", "F29", ["a"], ["c"], [node("Relu", ["a"], ["c"])], model.opset_import
    )
    small.overload = "small"
    model.functions.append(small)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="more than 20,000 nodes"):
        open_onnx(path)
    model.graph.node[0].overload = "small"
    path.write_bytes(model.SerializeToString())
    x = np.full((1, 3, 8, 8), -1, np.float32)
    assert np.array_equal(open_onnx(path).run(x), np.zeros_like(x))


def test_results_that_memory_does_not_hold_are_the_files_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def infer(*_: object) -> None:
        raise MemoryError("std::bad_alloc")

    monkeypatch.setattr(onnx.shape_inference, "infer_node_outputs", infer)
    with pytest.raises(ModelFileError, match="has Relu with more results than memory holds"):
        open_onnx(save(tmp_path / "m.onnx", [node("Relu", ["x"], ["y"])], {}))


def test_a_graph_of_constants_alone_is_no_model(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx", [node("Exp", ["w"], ["y"])], {"w": np.zeros((1, 5), np.float32)}
    )
    with pytest.raises(ModelFileError, match="it computes nothing from an image") as caught:
        open_onnx(path)
    assert (caught.value.code, caught.value.exit_code) == ("no_graph", 3)


@pytest.mark.parametrize(("times", "fits"), [(64, True), (1 << 14, False)])
def test_a_side_of_minus_one_is_free(times: int, fits: bool, tmp_path: Path) -> None:
    nodes = [node("Tile", ["x", "r"], ["t"]), node("ReduceMax", ["t", "all"], ["y"], keepdims=0)]
    path = save(tmp_path / "m.onnx", nodes, {"r": np.array([1, 1, times, times]), "all": [2, 3]})
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    path.write_bytes(model.SerializeToString())
    if not fits:
        with pytest.raises(ModelFileError, match="GiB for one image"):
            open_onnx(path)
        return
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8), dtype=np.float32)
    assert np.array_equal(open_onnx(path).run(x), x.max((2, 3)))


def test_a_batch_that_costs_more_than_its_images_is_refused(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["n"], end=1),
        node("Sub", ["n", "one"], ["m"]),
        node("Mul", ["m", "many"], ["size"]),
        node("ConstantOfShape", ["size"], ["q"]),
        *SUM,
    ]
    path = save(tmp_path / "m.onnx", nodes, {"one": [1], "many": [1 << 35]})
    session, x = open_onnx(path), np.ones((1, 3, 8, 8), np.float32)
    assert np.array_equal(session.run(x), x)
    with pytest.raises(ModelFileError, match="more than 4 GiB for one image of 2") as caught:
        session.run(np.concatenate([x, x]))
    assert caught.value.code == "unbounded"


def test_operators_of_the_runtime_itself_have_a_size(tmp_path: Path) -> None:
    """What onnxruntime writes when it optimises or quantises a file by operators."""
    own = {"domain": "com.microsoft"}
    weights = {
        "k": np.full((2, 3, 1, 1), 0.5, np.float32), "w": np.full((2, 5), 2, np.uint8),
        "s": np.float32(1), "z": np.uint8(0), "zw": np.uint8(0),
    }  # fmt: skip
    nodes = [
        node("FusedConv", ["x", "k"], ["c"], activation="Relu", **own),
        node("GlobalAveragePool", ["c"], ["g"]),
        node("QuantizeLinear", ["g", "s", "z"], ["q4"]),
        node("QLinearConcat", ["s", "z", "q4", "s", "z", "q4", "s", "z"], ["q8"], axis=0, **own),
        node("DequantizeLinear", ["q8", "s", "z"], ["g8"]),
        node("ReduceMean", ["g8", "first"], ["g1"]),
        node("Flatten", ["g1"], ["f"]),
        node("QuantizeLinear", ["f", "s", "z"], ["f1"]),
        node("QLinearAdd", ["f1", "s", "z", "f1", "s", "z", "s", "z"], ["f2"], **own),
        node("QGemm", ["f2", "s", "z", "w", "s", "zw"], ["y"], **own),
    ]
    path = save(tmp_path / "m.onnx", nodes, {**weights, "first": [0]})
    found = open_onnx(path).run(np.full((1, 3, 8, 8), 2, np.float32))
    assert np.array_equal(found, np.full((1, 5), 24, np.float32))  # (3 + 3) x 2, twice


def test_no_bomb_needs_memory(tmp_path: Path) -> None:
    for name, (nodes, weights, functions, _) in BOMBS.items():
        save(tmp_path / f"{name}.onnx", nodes, weights, functions)
    code = """
import pathlib, resource, sys
from export.runtime.opening import open_onnx
import onnx.reference, onnx.inliner, onnxruntime
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before = peak()
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
    try:
        open_onnx(file)
    except Exception as error:
        assert error.code == "unbounded", error
    else:
        sys.exit(f"{file} was opened")
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200


def test_names_and_numbers_of_a_file_do_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [node("Re\nlu\x1b[31m", ["x"], ["y"])], {})
    with pytest.raises(ModelFileError, match=r"needs the operator Re\\nlu\\x1b\[31m at opset 20"):
        open_onnx(path)
    model = onnx.load(save(path, [node("Add", ["x", "w"], ["y"])], {"w": np.float32(0)}))
    model.graph.initializer[0].data_type = 99
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="do not fit together"):
        open_onnx(path)


@pytest.mark.parametrize(
    ("nodes", "kind", "returned"),
    [
        ([node("ReduceSum", ["x"], ["y"], keepdims=0)], 1, r"float32 \(\)"),
        ([node("Relu", ["x"], ["y"])], 1, r"float32 \(1, 3, 8, 8\)"),
        ([node("Flatten", ["x"], ["f"]), node("Cast", ["f"], ["y"], to=7)], 7, "int64 .1, 192."),
        ([node("Flatten", ["x"], ["f"]), node("Cast", ["f"], ["y"], to=8)], 8, "object .1, 192."),
    ],
)
def test_what_is_no_row_of_numbers_is_no_answer(
    nodes: list[NodeProto], kind: int, returned: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "m.onnx", nodes, {}, kind=kind)
    predictor = open_predictor(path, like="convit_nano")
    predictor = replace(predictor, input=InputSpec(size=(8, 8)))
    with pytest.raises(ConfigError, match=f"returns {returned} for 1 images"):
        predictor(Image.new("RGB", (8, 8)))


def test_more_classes_than_names_are_no_answer(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [node("Flatten", ["x"], ["y"])], {})
    predictor = replace(open_predictor(path, like="convit_nano"), input=InputSpec(size=(8, 8)))
    with pytest.raises(ConfigError, match="answers with 192 classes and has names for 10"):
        predictor(Image.new("RGB", (8, 8)))


def _halved(path: Path) -> Path:
    half = node("Mul", ["v", "half"], ["w"])
    weights = {"m": np.int64(8), "half": np.float32(0.5), **TRUE}
    return save(path, [loop(body(half))], weights)


def _mean_of_rows(path: Path) -> Path:
    """A loop over the rows of the image, as many as there are, adding each to what it carries."""
    add = [node("Gather", ["x", "i"], ["u"], axis=2), node("Add", ["v", "u"], ["w"])]
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "two"], ["m"]),
        node("ReduceSum", ["x", "rows"], ["none"], keepdims=0),
        node("Sub", ["none", "none"], ["start"]),
        loop(body(*add), "start"),
    ]
    return save(path, nodes, {"two": np.int64(2), "rows": np.array([2]), **TRUE})


def _chosen(path: Path) -> Path:
    return save(path, nested(2), ZERO)


def _called(path: Path) -> Path:
    return save(path, [node("F3", ["x"], ["y"], domain="f")], {}, 4)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (_halved, lambda x: x / 2**8),
        (_mean_of_rows, lambda x: x.sum(axis=2)),
        (_chosen, lambda x: np.maximum(x, 0)),
        (_called, lambda x: np.maximum(x, 0)),
    ],
)
def test_a_foreign_file_with_a_bound_runs(
    write: Callable[[Path], Path], expected: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8), dtype=np.float32)
    found = open_onnx(write(tmp_path / "sane.onnx")).run(x)
    np.testing.assert_allclose(found, expected(x), rtol=1e-5, atol=1e-6)


def test_a_file_without_a_bound_runs_if_its_author_is_trusted(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [*PIXELS, loop(body(RELU))], TRUE)
    x = np.full((1, 3, 8, 8), 0.01, np.float32)
    assert np.array_equal(open_onnx(path, trust_code=True).run(x), x)


def test_what_was_exported_elsewhere_has_a_bound(exported: Path) -> None:
    require_bounded_cost(read_model(exported / "onnx" / "model.onnx"))


def test_what_was_exported_here_is_not_examined(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.runtime.opening.require_bounded_cost", lambda _: 1 / 0)
    assert open_onnx(exported / "onnx" / "model.onnx").shape[1:] == (3, 32, 32)


def test_without_onnx_loops_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = read_model(_halved(tmp_path / "m.onnx"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelFileError, match="Loop, and its cost is found with the onnx package"):
        require_bounded_cost(model)
    assert onnx.__name__ == "onnx"
