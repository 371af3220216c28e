"""One ONNX file from pixels to logits: resize, centre crop and normalisation inside the graph.

The steps are those of `zoo.data.preprocessing` on Pillow images: sizes in the same integer and
double arithmetic, ONNX's antialiased Resize on uint8 with Pillow's cubic coefficient -0.5 and
weights renormalised at the border (exclude_outside). What differs is the rounding between Pillow's
two passes: by how many grey levels is measured at every export and written into the report.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.catalog.weights_records import InputSpec
from zoo.errors import ExportError

from ..spec import INPUT_NAME

if TYPE_CHECKING:
    import onnx


IMAGE_NAME = "image"
GREY_VALUES = "pre_float"  # inside the graph: 0 to 255, before they are normalised
_LUMA = (19595, 38470, 7471)  # Pillow's weights of red, green, blue, in 1/65536
Array = np.ndarray[Any, Any]


def preprocessing_graph(spec: InputSpec) -> onnx.ModelProto:
    """The first part alone: `image` in, `pixel_values` out. Raises: as `with_preprocessing`."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.ModelProto()
    model.ir_version = 10
    model.opset_import.append(helper.make_opsetid("", 20))
    shape: list[str | int | None] = ["batch", spec.in_chans, *spec.size]
    model.graph.output.append(helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, shape))
    model.graph.name = "preprocessing"
    return with_preprocessing(model, spec)


def with_preprocessing(
    proto: onnx.ModelProto, spec: InputSpec, pixels: bool = False
) -> onnx.ModelProto:
    """A copy whose input is `image`, uint8 (B, H, W, 3) RGB of any size, one size per batch.

    Args: pixels: whether what the model sees, `pixel_values`, becomes its last output.
    Raises: ExportError for models of other than 1 or 3 channels, or nearest-neighbour resizing.
    """
    from onnx import TensorProto, helper

    if spec.in_chans not in (1, 3):
        raise ExportError(f"images have 1 or 3 channels; this model takes {spec.in_chans}")
    if spec.interpolation == "nearest":
        raise ExportError(
            "nearest-neighbour resizing cannot be put into a graph: runtimes round ties of "
            "coordinates in float32, Pillow in float64; use bilinear or bicubic"
        )
    steps = _Steps()
    steps.resize_and_crop(spec)
    steps.normalise(spec)
    result = copy.deepcopy(proto)
    nodes = [*steps.nodes, *result.graph.node]
    if pixels:
        result.graph.output.append(proto.graph.input[0])
    del result.graph.node[:], result.graph.input[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(steps.constants)
    shape: list[str | int | None] = ["batch", "image_height", "image_width", 3]
    result.graph.input.append(helper.make_tensor_value_info(IMAGE_NAME, TensorProto.UINT8, shape))
    return result


class _Steps:
    """Nodes of the first part, each output named after its step."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        name = output if output == INPUT_NAME else f"pre_{output}"
        node = helper.make_node(kind, inputs, [name], name=f"node_pre_{output}", **attributes)
        self.nodes.append(node)
        return name

    def constant(self, name: str, values: Any, dtype: Any) -> str:
        from onnx import numpy_helper

        array = np.asarray(values, dtype)
        self.constants.append(numpy_helper.from_array(array, f"pre_{name}"))
        return f"pre_{name}"

    def resize_and_crop(self, spec: InputSpec) -> None:
        """image -> pre_cropped, uint8 (B, 3, height, width)."""
        from onnx import TensorProto

        chw = self.add("Transpose", [IMAGE_NAME], "chw", perm=(0, 3, 1, 2))
        have = self.add("Shape", [chw], "have", start=2)  # (H, W) of the image
        new = self._new_size(have, spec)
        mode = {"bilinear": "linear", "bicubic": "cubic"}[spec.interpolation]
        how: dict[str, Any] = {"cubic_coeff_a": -0.5} if mode == "cubic" else {}
        head = self.add("Shape", [chw], "head", end=2)  # (B, 3)
        whole = self.add("Concat", [head, new], "whole", axis=0)
        resized = self.add(
            "Resize", [chw, "", "", whole], "resized",
            coordinate_transformation_mode="half_pixel", mode=mode, antialias=1,
            exclude_outside=1, **how,
        )  # fmt: skip
        wanted = self.constant("wanted", spec.size, np.int64)
        spare = self.add("Sub", [new, wanted], "spare")
        half = self.constant("half", 0.5, np.float64)
        spare = self.add("Cast", [spare], "spare_double", to=TensorProto.DOUBLE)
        start = self.add("Mul", [spare, half], "start_double")
        start = self.add("Round", [start], "start_round")  # half to even, as Python's
        start = self.add("Cast", [start], "start", to=TensorProto.INT64)
        end = self.add("Add", [start, wanted], "end")
        sides = self.constant("sides", (2, 3), np.int64)
        self.add("Slice", [resized, start, end, sides], "cropped")

    def _new_size(self, have: str, spec: InputSpec) -> str:
        """Height and width after resizing, as `zoo.data.preprocessing` computes them."""
        from onnx import TensorProto

        target = [int(side // spec.crop_pct) for side in spec.size]
        if target[0] == target[1]:  # the shorter side becomes the target
            wanted = self.constant("target", target, np.int64)
            short = self.add("ReduceMin", [have], "short", keepdims=1)
            scaled = self.add("Mul", [have, wanted], "scaled")
            return self.add("Div", [scaled, short], "new")
        wanted = self.constant("target", target, np.float64)
        sides = self.add("Cast", [have], "have_double", to=TensorProto.DOUBLE)
        ratios = self.add("Div", [wanted, sides], "ratios")
        ratio = self.add("ReduceMax", [ratios], "ratio", keepdims=1)
        scaled = self.add("Mul", [sides, ratio], "scaled")
        rounded = self.add("Round", [scaled], "scaled_round")
        rounded = self.add("Cast", [rounded], "scaled_int", to=TensorProto.INT64)
        least = self.constant("least", spec.size, np.int64)
        return self.add("Max", [rounded, least], "new")

    def normalise(self, spec: InputSpec) -> None:
        """pre_cropped -> pixel_values, float32."""
        from onnx import TensorProto

        image = "pre_cropped"
        if spec.in_chans == 1:
            image = self._grey(image)
        values = self.add("Cast", [image], "float", to=TensorProto.FLOAT)
        values = self.add("Div", [values, self.constant("255", 255, np.float32)], "unit")
        mean = self.constant("mean", np.reshape(spec.mean, (-1, 1, 1)), np.float32)
        std = self.constant("std", np.reshape(spec.std, (-1, 1, 1)), np.float32)
        values = self.add("Sub", [values, mean], "centred")
        self.add("Div", [values, std], INPUT_NAME)

    def _grey(self, image: str) -> str:
        """Pillow's conversion to one channel, in its integers."""
        from onnx import TensorProto

        wide = self.add("Cast", [image], "wide", to=TensorProto.INT32)
        weights = self.constant("luma", np.reshape(_LUMA, (3, 1, 1)), np.int32)
        weighted = self.add("Mul", [wide, weights], "weighted")
        channel = self.constant("channel", (1,), np.int64)
        total = self.add("ReduceSum", [weighted, channel], "total", keepdims=1)
        total = self.add("Add", [total, self.constant("round", 0x8000, np.int32)], "total_up")
        return self.add("Div", [total, self.constant("65536", 65536, np.int32)], "grey")
