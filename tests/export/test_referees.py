"""Tools of others take our files: they load, and what they make of them keeps the budget."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import export
import zoo
from export.parity.compare import check_parity
from export.parity.stored import read_test_data
from export.spec import ExportSpec
from zoo.factory.create import create_random

pytestmark = [
    pytest.mark.slow,
    # of the tools themselves, and of the packages that they load
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*float32 number.*:UserWarning"),  # cut to float16's range
]
SPEC = ExportSpec(batches=(1, 2))


def _tool(name: str) -> Any:
    return pytest.importorskip(name, reason=f"needs {name}: pip install 'convattn-zoo[dev]'")


def _onnxslim(path: Path, out: Path) -> None:
    onnx.save(_tool("onnxslim").slim(onnx.load(path)), out)


def _onnxsim(path: Path, out: Path) -> None:
    model, same = _tool("onnxsim").simplify(onnx.load(path))
    assert same, "onnxsim's own check"
    onnx.save(model, out)


def _float16(module: str) -> Callable[[Path, Path], None]:
    def convert(path: Path, out: Path) -> None:
        convert = importlib.import_module(f"{module}.float16").convert_float_to_float16
        onnx.save(convert(onnx.load(path), keep_io_types=True), out)

    return convert


def _onnxconverter(path: Path, out: Path) -> None:
    _tool("onnxconverter_common")
    _float16("onnxconverter_common")(path, out)


def _quantize_dynamic(path: Path, out: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Left to itself it takes Attention of opset 23 for com.microsoft's, and writes a broken node.
    kinds = ["MatMul", "Gemm", "Conv"]
    quantize_dynamic(path, out, op_types_to_quantize=kinds, weight_type=QuantType.QUInt8)


def _prepare(path: Path, out: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(path), str(out))


def _prepare_without_shapes(path: Path, out: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(path), str(out), skip_symbolic_shape=True)


def _newer(path: Path, out: Path) -> None:
    onnx.save(onnx.version_converter.convert_version(onnx.load(path), 24), out)


REFEREES: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "onnxslim": (_onnxslim, "float32"),
    "onnxsim": (_onnxsim, "float32"),
    "onnxruntime's float16": (_float16("onnxruntime.transformers"), "float16"),
    "onnxconverter-common's float16": (_onnxconverter, "float16"),
    "onnxruntime's quantize_dynamic": (_quantize_dynamic, "int8"),
    "onnxruntime's quant_pre_process": (_prepare_without_shapes, "float32"),
    "onnx's version converter": (_newer, "float32"),
}


@pytest.fixture(scope="module", params=["convit_nano", "resnet_nano"])
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("referees") / request.param
    export.export_model(zoo.create_model(request.param, pretrained=True), out, ["onnx"], SPEC)
    return out


@pytest.mark.parametrize("name", REFEREES)
def test_what_a_tool_makes_of_our_file_keeps_the_budget(
    ours: Path, tmp_path: Path, name: str
) -> None:
    make, precision = REFEREES[name]
    made = tmp_path / "made.onnx"
    make(ours / "onnx" / "model.onnx", made)
    _require_budget(made, ours, precision)


def _require_budget(made: Path, ours: Path, precision: str) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])

    def run(batch: np.ndarray) -> np.ndarray:
        return session.run(["logits"], {"pixel_values": batch})[0]

    rows = check_parity(run, read_test_data(ours), made.name, "cpu", SPEC, precision=precision)
    failed = [(row.inputs, row.max_abs_error, row.limit) for row in rows if not row.passed]
    if precision == "int8":  # an image's answer depends on its neighbours there
        assert max(row.relative_l2 for row in rows if row.inputs == "real") < 0.3
    assert not [row for row in failed if row[0] != "neighbours"]


def test_onnxruntimes_preparation_with_shapes_needs_an_older_opset(tmp_path: Path) -> None:
    """Its symbolic shapes have no rule for Attention, opset 23; a file of opset 18 passes."""
    model = create_random("convit_nano", 0)
    spec = ExportSpec(batches=(1, 2), opset=18)
    export.export_model(model, tmp_path / "old", ["onnx"], spec)
    _prepare(tmp_path / "old" / "onnx" / "model.onnx", tmp_path / "made.onnx")
    _require_budget(tmp_path / "made.onnx", tmp_path / "old", "float32")


def test_no_initialiser_stands_among_the_shapes(ours: Path) -> None:
    """quantize_dynamic transposes weights, and then finds the old shape there."""
    graph = onnx.load(ours / "onnx" / "model.onnx").graph
    assert not {w.name for w in graph.initializer} & {v.name for v in graph.value_info}
