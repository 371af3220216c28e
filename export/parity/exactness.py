"""Whether an int8 file computes the same on every processor: its weights are unsigned, each of its
products gives onnxruntime the very integers of the ONNX reference evaluator, and the whole file
answers as it does in that evaluator.

Products are compared one by one, since a rounding that falls to the other side changes a whole
step of an activation and all that comes after it; whole files therefore agree nearly, not exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ExportError

from ..graph.checks import load_model
from ..runtime.arithmetic import integer_arithmetic
from ..runtime.opening import open_onnx
from ..spec import INPUT_NAME
from .measure import References

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, Any]

_ROWS = 4
_SLACK = 1e-3  # relative L2 between runtime and evaluator that passes whatever the file's own error


@dataclass(frozen=True)
class _Product:
    """A quantised weight and the operator that multiplies with it."""

    kind: str  # "MatMulInteger" or "ConvInteger"
    weight: Array
    zero_point: Array
    groups: int = 1


def check_exactness(path: Path, references: References) -> dict[str, Any]:
    """Prove that a written int8 file means the same everywhere.

    Returns: how this processor multiplies, the number of products that were compared, and per kind
        of input the relative L2 between runtime and reference evaluator.
    Raises: ExportError with the code "inexact" if one of the three claims fails.
    """
    proto = load_model(path)
    products = list(_products(proto))
    signed = sum(product.weight.dtype != np.uint8 for product in products)
    if signed or not products:
        raise _inexact(path, f"{signed} of {len(products)} quantised weights are not unsigned")
    wrong = _wrong_products(proto, products)
    if wrong:
        raise _inexact(path, f"{wrong} of {len(products)} integer products differ")
    return {
        "integer_arithmetic": integer_arithmetic(),
        "integer_products": len(products),
        "from_reference_evaluator": _from_evaluator(path, proto, references),
    }


def _inexact(path: Path, what: str) -> ExportError:
    return ExportError(
        f"the arithmetic of {path.name} is not exact on every processor: {what}; please report "
        "this with the output of `convattn doctor`",
        code="inexact",
    )


def _products(proto: onnx.ModelProto) -> Iterator[_Product]:
    """Of both forms: integer operators, and weights that are dequantised before a product."""
    from onnx import helper, numpy_helper

    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    opened = {n.output[0]: n for n in proto.graph.node if n.op_type == "DequantizeLinear"}
    for node in proto.graph.node:
        kind = node.op_type.removesuffix("Integer")
        if kind not in ("MatMul", "Conv"):
            continue
        source = opened.get(node.input[1])
        if kind != node.op_type:  # MatMulInteger, ConvInteger: a, weight, zero points of both
            names = node.input[1], node.input[3] if len(node.input) > 3 else ""
        elif source is not None:
            names = source.input[0], source.input[2] if len(source.input) > 2 else ""
        else:
            continue
        if names[0] not in stored:
            continue
        weight = numpy_helper.to_array(stored[names[0]])
        given = stored.get(names[1])
        zero = numpy_helper.to_array(given) if given is not None else np.zeros((), weight.dtype)
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if kind == "Conv" and (zero == zero.flat[0]).all():
            zero = zero.reshape(-1)[0]  # the operator takes one for all channels
        yield _Product(f"{kind}Integer", weight, np.asarray(zero), int(settings.get("group", 1)))


def _wrong_products(proto: onnx.ModelProto, products: list[_Product]) -> int:
    """How many give other integers than the reference evaluator, at the end of the range and on
    random bytes.
    """
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    generator = np.random.Generator(np.random.PCG64(0))
    nodes, weights, inputs, feeds = [], [], [], {}
    for number, product in enumerate(products):
        names = [f"a{number}", f"w{number}", "", f"z{number}"]
        shape = (_ROWS, product.weight.shape[0])
        if product.kind == "ConvInteger":
            channels, *kernel = product.weight.shape[1:]
            shape = (_ROWS, channels * product.groups, *kernel)
        bytes_ = generator.integers(0, 256, shape, dtype=np.uint8)
        bytes_[0] = 255
        feeds[names[0]] = bytes_
        groups: dict[str, Any] = {"group": product.groups} if product.kind == "ConvInteger" else {}
        nodes.append(helper.make_node(product.kind, names, [f"c{number}"], **groups))
        inputs.append(helper.make_tensor_value_info(names[0], TensorProto.UINT8, shape))
        weights.append(numpy_helper.from_array(product.weight, names[1]))
        weights.append(numpy_helper.from_array(product.zero_point, names[3]))
    outputs = [helper.make_empty_tensor_value_info(f"c{n}") for n in range(len(products))]
    for value in outputs:
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.INT32, None))
    graph = helper.make_graph(nodes, "products", inputs, outputs, weights)
    probe = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    exact = ReferenceEvaluator(probe).run(None, feeds)
    found = _runtime_answers(probe, feeds)
    return sum(not np.array_equal(a, b) for a, b in zip(exact, found, strict=True))


def _runtime_answers(probe: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    answers: list[Array] = session.run(None, feeds)
    return answers


def _from_evaluator(path: Path, proto: onnx.ModelProto, references: References) -> dict[str, float]:
    """Relative L2 between runtime and evaluator, for one image of noise and one real one.

    Where a rounding falls to the other side, the two differ as two equally good answers do: each is
    as far from float64 as the other, so by at most twice that. Products that saturate are farther.

    Raises: ExportError if it exceeds twice the evaluator's own distance from float64.
    """
    from onnx.reference import ReferenceEvaluator

    evaluator, session = ReferenceEvaluator(proto), open_onnx(path)
    output = references.form.outputs[0]
    reference = references.at(references.axes.sizes[0])[output]
    kinds = reference.inputs.kinds
    found: dict[str, float] = {}
    for kind in ("noise", "real"):
        row = kinds.index(kind)
        image = reference.inputs.batch[row : row + 1]
        (answer,) = evaluator.run([output], {INPUT_NAME: image})
        exact = np.asarray(answer, np.float64).ravel()
        ran = np.asarray(session.run_named(image)[output], np.float64).ravel()
        size = max(float(np.linalg.norm(exact)), 1e-30)
        found[kind] = float(np.linalg.norm(ran - exact)) / size
        own = float(np.linalg.norm(exact - reference.logits[row])) / size
        if not found[kind] <= 2 * own + _SLACK:
            raise _inexact(path, f"{found[kind]:.1e} from the reference evaluator on {kind} inputs")
    return found
