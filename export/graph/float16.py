"""float16 with float32 islands that are found by measurement.

Every float32 node becomes a float16 node, except those of the islands; casts stand only where a
tensor crosses the border, so that a value too large for float16 passes from one island node to the
next untouched (the converter that ships with onnxruntime casts to float16 in between). Inputs and
outputs of the graph stay float32. `islands.py` chooses the islands.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx


LARGEST = 65504.0  # of float16
# inputs that an operator takes in float32 whatever its data are
_ALWAYS_FLOAT32 = {"Resize": (1, 2)}
# operators that make numbers: what they make is small, and their type is an attribute
_MAKERS = frozenset({"Constant", "ConstantOfShape", "Range", "EyeLike"})


def convert(proto: onnx.ModelProto, islands: Collection[str]) -> onnx.ModelProto:
    """The graph in float16 with the named nodes in float32; the argument is not changed."""
    return _Conversion(proto, islands).result()


def float_tensors(proto: onnx.ModelProto) -> dict[str, tuple[int | str | None, ...]]:
    """Shapes of all float32 tensors that nodes make or the caller passes in, by name."""
    import onnx
    from onnx import TensorProto

    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
            for dim in value.type.tensor_type.shape.dim
        )
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }


def rounded(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """To float16; what is too large becomes the largest number, not infinity."""
    finite = np.isfinite(array)  # masks keep their infinity
    return np.where(finite, np.clip(array, -LARGEST, LARGEST), array).astype(np.float16)


class _Conversion:
    """Walks the nodes in order and keeps, for every float tensor, the forms that exist already."""

    def __init__(self, proto: onnx.ModelProto, islands: Collection[str]) -> None:
        from onnx import TensorProto

        self._proto = copy.deepcopy(proto)
        self._islands = islands
        graph = self._proto.graph
        self._weights = {w.name: w for w in graph.initializer if w.data_type == TensorProto.FLOAT}
        self._type = dict.fromkeys((*float_tensors(proto), *self._weights), TensorProto.FLOAT)
        self._outputs = {value.name for value in graph.output if value.name in self._type}
        self._made: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []

    def result(self) -> onnx.ModelProto:
        import onnx
        from onnx import TensorProto

        graph = self._proto.graph
        for node in graph.node:
            self._convert(node)
        for name in [output.name for output in graph.output]:
            if self._type.get(name) == TensorProto.FLOAT16:
                self._cast(f"{name}_float16", name, TensorProto.FLOAT)
        del graph.node[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        used = {name for node in graph.node for name in node.input}
        kept = [weight for weight in graph.initializer if weight.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return onnx.shape_inference.infer_shapes(self._proto)

    def _convert(self, node: onnx.NodeProto) -> None:
        from onnx import TensorProto

        island = node.name in self._islands or node.op_type in _MAKERS
        fixed = _ALWAYS_FLOAT32.get(node.op_type, ())
        for number, name in enumerate(node.input):
            if name in self._type:
                wide = island or number in fixed
                kind = TensorProto.FLOAT if wide else TensorProto.FLOAT16
                node.input[number] = self._as(name, kind)
        self._nodes.append(node)
        if island:
            return
        if node.op_type == "Cast":
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16
        for number, name in enumerate(node.output):
            if name in self._type:
                self._type[name] = TensorProto.FLOAT16
                if name in self._outputs:
                    node.output[number] = f"{name}_float16"

    def _as(self, name: str, kind: int) -> str:
        """The name of a tensor in a type, made if it does not exist yet."""
        from onnx import TensorProto, numpy_helper

        have = self._type[name]
        here = f"{name}_float16" if have != TensorProto.FLOAT and name in self._outputs else name
        if have == kind:
            return here
        wanted = f"{name}_float16" if kind == TensorProto.FLOAT16 else f"{name}_float32"
        if wanted in self._made:
            return wanted
        self._made.add(wanted)
        if name in self._weights:
            array = rounded(numpy_helper.to_array(self._weights[name]))
            self._proto.graph.initializer.append(numpy_helper.from_array(array, wanted))
        else:
            self._cast(here, wanted, kind)
        return wanted

    def _cast(self, source: str, target: str, kind: int) -> None:
        from onnx import helper

        name = f"cast_{target}"
        self._nodes.append(helper.make_node("Cast", [source], [target], name=name, to=kind))
