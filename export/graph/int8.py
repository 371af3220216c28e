"""int8: weights per channel; activations at run time (dynamic) or calibrated on images (static).

onnxruntime's quantiser does the work, on a graph in plain operators (`plain_graph.py`) and without
stated shapes, which it would contradict. Only products with weights are quantised: the scores of
attention and the positional factors stay float32, and in static int8 the first and the last product
too. Dynamic int8 is a CPU format: CUDA has no kernel for DynamicQuantizeLinear or MatMulInteger.

Weights are unsigned, as activations are. x86 without VNNI adds two products of an unsigned and a
signed byte in 16 bits, where they saturate (255 * 127 * 2 > 32767), so that a file with signed
weights answers otherwise there; products of unsigned bytes are exact on every CPU.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ExportError
from zoo.factory.description import PretrainedCfg

from ..spec import INPUT_NAME
from .checks import root_cause
from .plain_graph import plain_products

if TYPE_CHECKING:
    import onnx


Array = np.ndarray[Any, Any]


def to_int8(
    proto: onnx.ModelProto, cfg: PretrainedCfg, images: tuple[list[Array], str] | None = None
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The graph in int8 and how it was made.

    Args:
        images: batches to calibrate activations on, and what they are (`calibration_batches`);
            None: the graph measures each input itself (dynamic).
    Raises: ExportError if there is nothing to quantise or the quantiser fails.
    """
    import onnx

    plain = plain_products(proto)
    static = images is not None
    kinds = ("Conv", "MatMul") if static or _mostly_convolutions(plain) else ("MatMul",)
    chosen = _with_weights(plain, kinds)
    if static:
        chosen = _between(plain, chosen)
    if not chosen:
        raise ExportError(f"{cfg.name} has no product with weights that int8 could take")
    notes: dict[str, Any] = {"quantised_nodes": len(chosen), "of_types": list(kinds)}
    with tempfile.TemporaryDirectory() as place, _quiet():
        out = Path(place) / "model.onnx"
        try:
            if images is not None:
                notes["calibration"] = _static(plain, out, chosen, images)
            else:
                _dynamic(plain, out, chosen, kinds)
        except Exception as error:  # the quantiser raises whatever happens in it
            raise ExportError(f"int8 export of {cfg.name} failed: {root_cause(error)}") from error
        return onnx.load(out), notes


def _static(
    proto: onnx.ModelProto, out: Path, chosen: list[str], images: tuple[list[Array], str]
) -> str:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(images[0])

        def get_next(self) -> dict[str, Array] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT_NAME: batch}

    quantize_static(
        proto,
        out,
        Reader(),
        nodes_to_quantize=chosen,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QUInt8,
    )
    return images[1]


def _dynamic(proto: onnx.ModelProto, out: Path, chosen: list[str], kinds: tuple[str, ...]) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    convolutions = "Conv" in kinds  # ConvInteger takes one scale for all output channels
    quantize_dynamic(
        proto,
        out,
        nodes_to_quantize=chosen,
        op_types_to_quantize=list(kinds),
        per_channel=not convolutions,
        weight_type=QuantType.QUInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def _with_weights(proto: onnx.ModelProto, kinds: tuple[str, ...]) -> list[str]:
    """Nodes whose second input is a constant matrix or kernel."""
    weights = {w.name: len(w.dims) for w in proto.graph.initializer}
    least = {"Conv": 4, "MatMul": 2}
    return [
        node.name
        for node in proto.graph.node
        if node.op_type in kinds and weights.get(node.input[1]) == least[node.op_type]
    ]


def _between(proto: onnx.ModelProto, chosen: list[str]) -> list[str]:
    """Without the products that read the image and those that make the output, unless that leaves
    none: the range of every image that may come cannot be calibrated, and errors of the last
    product are errors of the logits.
    """
    before, after = _reach(proto, chosen), _reach(proto, chosen, backwards=True)
    return [name for name in chosen if before[name] and after[name]] or chosen


def _reach(proto: onnx.ModelProto, chosen: list[str], backwards: bool = False) -> dict[str, bool]:
    """For every chosen node whether another one comes before it (backwards: after it)."""
    marked: set[str] = set()  # values that depend on a chosen node, or that one depends on
    found: dict[str, bool] = {}
    for node in reversed(proto.graph.node) if backwards else proto.graph.node:
        near, far = (node.output, node.input) if backwards else (node.input, node.output)
        met = bool(marked & set(near))
        if node.name in chosen:
            found[node.name] = met
        if met or node.name in chosen:
            marked |= set(far) - {""}
    return found


def _mostly_convolutions(proto: onnx.ModelProto) -> bool:
    sizes = {w.name: int(np.prod(w.dims)) for w in proto.graph.initializer}

    def total(kind: str) -> int:
        nodes = (node for node in proto.graph.node if node.op_type == kind)
        return sum(sizes.get(node.input[1], 0) for node in nodes)

    return total("Conv") > total("MatMul")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser logs advice through the root logger and divides zero weights by their zero
    range.
    """
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            yield
    finally:
        logging.root.setLevel(level)
