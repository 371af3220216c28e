"""Maximum pooling as slices and maxima, for runtimes without a kernel of its newest version.

ONNX Runtime's CUDA provider has MaxPool up to opset 21 only; the graphs here need opset 23 for
Attention. The maximum of a window is the maximum over its columns of the maximum over its rows, and
a padded pixel that repeats the edge changes no maximum, since the edge is in the same window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx


_END = np.iinfo(np.int64).max


def spell_out_max_pools(graph: onnx.GraphProto) -> None:
    """Rewrite every 2-D MaxPool in place that has one output, no dilation and no ceiling."""
    from onnx import helper

    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        settings = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if node.op_type == "MaxPool" and _is_plain(node, settings):
            nodes += _Pool(graph, node, settings).steps()
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _is_plain(node: onnx.NodeProto, settings: dict[str, Any]) -> bool:
    kernel, pads = settings["kernel_shape"], settings.get("pads", [0] * 4)
    return (
        len(kernel) == 2
        and len(node.output) == 1
        and settings.get("auto_pad", b"NOTSET") == b"NOTSET"
        and set(settings.get("dilations", [1])) == {1}
        and not settings.get("ceil_mode", 0)
        and all(pad < side for pad, side in zip(pads, [*kernel, *kernel], strict=True))
    )


class _Pool:
    """The nodes that stand for one MaxPool; their constants go into the graph."""

    def __init__(
        self, graph: onnx.GraphProto, node: onnx.NodeProto, settings: dict[str, Any]
    ) -> None:
        self.graph, self.x, self.y = graph, node.input[0], node.output[0]
        self.kernel = settings["kernel_shape"]
        self.strides = settings.get("strides", [1, 1])
        self.pads = settings.get("pads", [0] * 4)

    def steps(self) -> list[onnx.NodeProto]:
        """Pad, then the maximum over rows, then over columns."""
        from onnx import helper

        nodes, x = [], self.x
        if any(self.pads):
            top, left, bottom, right = self.pads
            pads = self._constant("pads", [0, 0, top, left, 0, 0, bottom, right])
            nodes = [helper.make_node("Pad", [x, pads], [f"{self.y}.padded"], mode="edge")]
            x = f"{self.y}.padded"
        nodes += self._along(2, x, f"{self.y}.rows")
        nodes += self._along(3, f"{self.y}.rows", self.y)
        for made in nodes:
            made.name = made.output[0]
        return nodes

    def _along(self, axis: int, x: str, out: str) -> list[onnx.NodeProto]:
        """Slice i of k takes positions i, i + stride, ... that leave k - 1 - i after them."""
        from onnx import helper

        size, stride = self.kernel[axis - 2], self.strides[axis - 2]
        at, step = self._constant(f"axis{axis}", [axis]), self._constant(f"step{axis}", [stride])
        slices, names = [], []
        for i in range(size):
            begin = self._constant(f"begin{axis}.{i}", [i])
            end = self._constant(f"end{axis}.{i}", [i + 1 - size if i + 1 < size else _END])
            names.append(f"{out}.{i}")
            slices.append(helper.make_node("Slice", [x, begin, end, at, step], [names[-1]]))
        return [*slices, helper.make_node("Max", names, [out])]

    def _constant(self, name: str, values: list[int]) -> str:
        from onnx import numpy_helper

        full = f"{self.y}.{name}"
        self.graph.initializer.append(
            numpy_helper.from_array(np.asarray(values, dtype=np.int64), full)
        )
        return full
