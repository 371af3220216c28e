"""What a node of an ONNX graph computes, and holds only while it runs: roughly, and not too low."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .node_values import UnknownSize, Value

_PRODUCTS = ("MatMul", "Gemm", "Einsum")
_KERNELS = {"QLinearConv": 3, **dict.fromkeys(("Conv", "FusedConv", "ConvInteger"), 1)}
_KERNELS |= {"ConvTranspose": 1, "DeformConv": 1}  # operator -> which input the kernel is
_ONES = ("DFT", "STFT", "Det")  # every number with all others of a side
_SAMPLE_BYTES = 32  # places and weights of the four pixels around a sample
Taken = Sequence[Value | None]  # inputs in their order; None for one that is left out


def cost_of(node: Any, taken: Taken, found: Sequence[Value]) -> tuple[float, int]:
    """Multiplications, and bytes beside those of the results. Raises: UnknownSize."""
    counts = sorted((value.count for value in taken if value), reverse=True)
    results = max((value.count for value in found), default=0)
    base = float(sum(counts) + results * _window(node))
    special = _SPECIAL.get(node.op_type)
    if special is not None:
        work, scratch = special(node, taken, results)
        return base + work, scratch
    if node.op_type in _KERNELS:
        work, scratch = _convolution(node, taken, found)
        return base + work, scratch
    if len(counts) > 1 and any(name in node.op_type for name in _PRODUCTS):
        # n k m of (n, k) x (k, m) is the root of the product of the three sizes
        base += math.sqrt(float(counts[0]) * counts[1] * results)
    if node.op_type in _ONES and taken[0]:
        base += float(max(results, taken[0].count)) * max(taken[0].shape, default=1)
    if node.domain == "ai.onnx.ml" and taken[0]:  # tables in attributes, gone through for each row
        rows = taken[0].shape[0] if len(taken[0].shape) > 1 else 1
        lists = [len(a.floats) + len(a.ints) + len(a.strings) for a in node.attribute]
        base += float(rows) * max(lists, default=0)
    return base, 0


def _attribute(node: Any, name: str, default: int = 0) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _window(node: Any) -> int:
    """Numbers under the window of a pooling layer."""
    return max(1, next((math.prod(a.ints) for a in node.attribute if a.name == "kernel_shape"), 1))


def _convolution(node: Any, taken: Taken, found: Sequence[Value]) -> tuple[float, int]:
    """Every number with a whole kernel; all windows are laid out where the runtime does so."""
    place = _KERNELS[node.op_type]
    kernel = taken[place] if place < len(taken) else None
    moved = taken[0] if node.op_type == "ConvTranspose" else next(iter(found), None)
    if kernel is None or moved is None or not kernel.shape:
        raise UnknownSize(f"has {node.op_type} without a kernel")
    weights = math.prod(kernel.shape[1:])
    windows = math.prod(moved.shape[2:]) * weights
    plain = (
        node.op_type in ("Conv", "FusedConv") and moved.kind == 1
    )  # float32, whose windows are taken in parts
    return float(moved.count) * weights, 0 if plain else windows * moved.item_bytes


def _attention(node: Any, taken: Taken, _: int) -> tuple[float, int]:
    """Scores of every query with every key, held at once."""
    query = taken[0]
    if query is None or len(query.shape) < 3:
        raise UnknownSize(f"has {node.op_type} of a query without rows")
    keys = [value for value in taken[1:2] if value] or [query]
    heads = query.shape[1] if len(query.shape) == 4 else 1
    heads = max(heads, _attribute(node, "q_num_heads"), _attribute(node, "num_heads"))
    before = [value for value in taken[3:] if value and len(value.shape) == 4]
    rows = sum(_rows(value) for value in (*keys, *before))
    scores = query.shape[0] * heads * _rows(query) * rows
    return 2.0 * query.count * rows, scores * 4


def _rows(value: Value) -> int:
    return value.shape[2 if len(value.shape) == 4 else 1]


def _recurrent(_: Any, taken: Taken, __: int) -> tuple[float, int]:
    """Two matrices at every step."""
    steps = math.prod(taken[0].shape[:2]) if taken[0] else 0
    return float(steps) * sum(value.count for value in taken[1:3] if value), 0


def _samples(node: Any, _: Taken, results: int) -> tuple[float, int]:
    ratio = _attribute(node, "sampling_ratio")
    if ratio < 1:
        raise UnknownSize("has RoiAlign whose samples are not counted")
    side = _attribute(node, "output_height", 1) * _attribute(node, "output_width", 1)
    return float(results) * ratio**2, side * ratio**2 * _SAMPLE_BYTES


def _einsum(node: Any, taken: Taken, results: int) -> tuple[float, int]:
    """Of two operands a product of matrices; of more, whatever all letters can make."""
    values = [value for value in taken if value]
    if len(values) < 3:
        counts = [float(value.count) for value in values]
        return math.sqrt(math.prod(counts) * results) if len(counts) > 1 else 0.0, 0
    equation = next((a.s.decode() for a in node.attribute if a.name == "equation"), "")
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sides: dict[str, int] = {}
    for term, value in zip(terms, values, strict=True):
        before, dots, after = term.partition("...")
        spread = len(value.shape) - len(before + after) if dots else 0
        letters = [*before, *(f".{spread - at}" for at in range(spread)), *after]
        for letter, side in zip(letters, value.shape, strict=True):
            sides[letter] = max(side, sides.get(letter, 1))
    total = math.prod(sides.values())
    return float(total), total * values[0].item_bytes


_SPECIAL: dict[str, Callable[[Any, Taken, int], tuple[float, int]]] = {
    **dict.fromkeys(("Attention", "MultiHeadAttention"), _attention),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    "RoiAlign": _samples,
    "Einsum": _einsum,
}
