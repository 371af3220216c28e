"""Predicted placement: which nodes would leave the GPU, and that none of ours does unannounced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export.formats.axes import axes_of
from export.formats.capture import capture
from export.formats.onnx_file import translate
from export.runtime.placement import KNOWN_GAPS, TABLE, predict_placement
from export.spec import ExportSpec
from tests.contract.helpers import each_builder
from zoo.catalog.registry import families
from zoo.catalog.weights_records import InputSpec
from zoo.errors import ExportError
from zoo.factory.building import construct
from zoo.factory.description import PretrainedCfg

from .test_formats import writer

# family -> operators that may leave the GPU, each with its reason in KNOWN_GAPS
ALLOWED: dict[str, set[str]] = {}
STRICT = {"convit", "conv_attention_vit", "alternet", "fcvit"}


def tiny_graph(family: str, spec: ExportSpec) -> onnx.ModelProto:
    config = families()[family].tiny
    side = config.get("img_size", 32)
    size = (side, side) if isinstance(side, int) else tuple(side)
    image = InputSpec(size=size, in_chans=config.get("in_chans", 3))
    torch.manual_seed(0)
    model = construct(families()[family].builder, config).eval()
    cfg = PretrainedCfg(architecture="", architecture_version=0, num_classes=0, input=image)
    axes = axes_of(model, image, spec)
    return translate(capture(model, image.in_chans, axes), cfg, spec, axes)


@each_builder
def test_no_graph_of_ours_leaves_the_gpu_unannounced(family: str) -> None:
    allowed = ALLOWED.get(family, set())
    assert not (family in STRICT and allowed)
    assert allowed <= set(KNOWN_GAPS)
    found = predict_placement(tiny_graph(family, ExportSpec()))
    assert found.nodes > 10
    assert found.outside(allowed) == (), f"{family}: {found.off_cuda[:5]}"
    assert {op for _, op, _ in found.off_cuda} == allowed, "an allowance that nothing needs"


@pytest.mark.parametrize("family", sorted(STRICT))
def test_no_float16_graph_of_attention_leaves_the_gpu(family: str, tmp_path: Path) -> None:
    made = writer(family, tmp_path, ExportSpec(batches=(1,)))
    made.write_precision("float16")
    assert predict_placement(tmp_path / "onnx" / "model_fp16.onnx").off_cuda == ()


def model_of(
    nodes: list[Any], constants: dict[str, Any] | None = None, opset: int = 23, kind: int = 1
) -> onnx.ModelProto:
    """A graph from "x" (batch, 3, 8, 8) to "y"."""
    x = helper.make_tensor_value_info("x", kind, ["batch", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)
    stored = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=op, **attributes)


def off(model: onnx.ModelProto) -> list[tuple[str, str]]:
    return [(name, why) for name, _, why in predict_placement(model).off_cuda]


def test_an_operator_without_kernel_is_off_cuda() -> None:
    found = predict_placement(model_of([node("Relu", "x", "a"), node("Atan", "a", "y")]))
    assert found.off_cuda == (("Atan", "Atan", "CUDA has no Atan"),)
    assert not found
    assert found.nodes == 2
    assert found.to_dict()["predicted_for"] == "onnxruntime-gpu 1.31.1"


@pytest.mark.parametrize(("opset", "reason"), [(21, None), (22, "CUDA has no MaxPool of opset 22")])
def test_a_kernel_that_ends_at_an_older_opset_does_not_count(
    opset: int, reason: str | None
) -> None:
    model = model_of([node("MaxPool", "x", "y", kernel_shape=[2, 2])], opset=opset)
    assert off(model) == ([("MaxPool", reason)] if reason else [])


@pytest.mark.parametrize(
    ("kind", "fine"),
    [(TensorProto.FLOAT, True), (TensorProto.FLOAT16, True), (TensorProto.INT16, False)],
)
def test_element_types_decide_too(kind: int, fine: bool) -> None:
    assert bool(predict_placement(model_of([node("Relu", "x", "y")], kind=kind))) is fine


def test_dynamic_int8_is_a_format_of_the_cpu() -> None:
    model = model_of(
        [
            node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
            node("DynamicQuantizeLinear", "t", "q scale zero"),
            node("ConvInteger", "q w zero", "y"),
        ],
        {"w": np.zeros((1, 8, 1, 1), np.uint8)},
    )
    assert [name for name, _ in off(model)] == ["DynamicQuantizeLinear", "ConvInteger"]


def test_arithmetic_on_shapes_is_done_on_the_cpu() -> None:
    model = model_of(
        [
            node("Shape", "x", "s"),
            node("Gather", "s zero", "n"),
            node("Unsqueeze", "n axis", "n1"),
            node("Concat", "n1 rest", "target", axis=0),
            node("Reshape", "x target", "y"),
        ],
        {"zero": np.int64(0), "axis": np.array([0]), "rest": np.array([-1])},
    )
    why = "it computes shapes, which onnxruntime does on the CPU"
    assert off(model) == [("Gather", why), ("Unsqueeze", why), ("Concat", why)]


def test_shapes_that_are_known_are_folded_away() -> None:
    model = model_of(
        [
            node("Shape", "x", "s", start=1),
            node("Concat", "minus s", "target", axis=0),
            node("Reshape", "x target", "y"),
        ],
        {"minus": np.array([-1])},
    )
    found = predict_placement(model)
    assert found
    assert found.nodes == 1


def test_group_normalization_is_judged_by_what_the_runtime_makes_of_it() -> None:
    model = model_of(
        [node("GroupNormalization", "x scale bias", "y", num_groups=1)],
        {"scale": np.ones(3, np.float32), "bias": np.zeros(3, np.float32)},
    )
    found = predict_placement(model)
    assert found.nodes > 5
    assert "GroupNormalization" not in {op for _, op, _ in found.off_cuda}


def test_files_are_read_and_damaged_ones_refused(exported: Path, tmp_path: Path) -> None:
    assert predict_placement(exported / "onnx" / "model.onnx")
    (tmp_path / "cut.onnx").write_bytes((exported / "onnx" / "model.onnx").read_bytes()[:5000])
    with pytest.raises(ExportError, match=r"cut\.onnx is not an ONNX model"):
        predict_placement(tmp_path / "cut.onnx")


def test_the_table_says_where_it_comes_from() -> None:
    header = json.loads(TABLE.read_text())["header"]
    assert "onnxruntime-gpu 1.31.1" in header["source"]
    assert header["how"]
    assert header["caveat"]
