"""What an ONNX file would cost to run on a batch of images, found before a runtime sees it.

Shapes are followed through the graph from images of the size that the file states, with onnx's own
shape inference, node by node; small integers, of which shapes are made, are computed on the way.
What has no shape then has no bound, and is refused: a loop without a count, a value that grows in
its loop, a size that depends on pixels.
"""

from __future__ import annotations

import contextlib
import functools
from collections import ChainMap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from zoo.catalog.weights_records import InputSpec
from zoo.errors import ConfigError, ModelFileError

from .model_files import CONTROL_FLOW, ModelFile
from .node_values import (
    NodeValues,
    UnknownOperator,
    UnknownSize,
    Value,
    longest_text,
    weights_of,
)
from .node_work import cost_of
from .session import decode_metadata

MAX_NODES = 20_000  # functions written out
MAX_DEPTH = 4  # of graphs inside graphs
_GRAPH = 80  # nodes that a graph inside a node counts for: onnxruntime takes so long to open it
MAX_STEPS = 100_000  # of a loop, those around it multiplied
MAX_BYTES = 4 << 30  # that live at once
_LIGHT = 1 << 16  # bytes of weights that are kept while the file is open
MAX_WORK = 4_000_000_000_000  # multiplications, roughly
_NODE_WORK = 100_000  # of calling any node
_TEXT = 8  # data type of strings
_TEXT_BYTES = 32  # of a number as text
Scope = ChainMap[str, Value]


def require_bounded_cost(model: ModelFile) -> Callable[[tuple[int, ...]], None]:
    """Refuse a file that could take any time or memory. Without the onnx package only loops are.

    Returns: the same for a batch of another shape than one image's, as (images, C, H, W).
    Raises: ModelFileError (code "unbounded"; "custom_operator": it has one that ONNX lacks).
    """
    try:
        import onnx
    except ModuleNotFoundError:
        found = sorted(CONTROL_FLOW & {operator for _, operator in model.facts.operators})
        if found:
            why = f"has {found[0]}, and its cost is found with the onnx package only (pip install)"
            raise _refused(model.name, why) from None
        return lambda _: None
    with _words_of(model.name):
        proto = _light(_inlined(onnx.load_model_from_string(model.data)))
        stated = _stated(proto)
        _Walk(proto, stated)

    @functools.lru_cache(maxsize=64)
    def require(shape: tuple[int, ...]) -> None:
        if shape != stated:
            with _words_of(model.name):
                _Walk(proto, shape)

    return require


@contextlib.contextmanager
def _words_of(name: str) -> Iterator[None]:
    """What the walk through a file raises, in our words."""
    try:
        yield
    except UnknownSize as error:
        raise _refused(name, str(error)) from None
    except UnknownOperator as error:
        raise ModelFileError(
            f"{name} needs the operator {error}, which ONNX does not have; export it with "
            "standard operators only",
            code="custom_operator",
        ) from None
    except MemoryError:
        raise
    except Exception:  # onnx raises whatever it likes, and the file is why
        raise _refused(name, "has nodes or weights that do not fit together") from None


def _light(proto: Any) -> Any:
    """The model without the bytes of large weights, of which only the shape counts."""
    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) > _LIGHT:
            tensor.ClearField("raw_data")
    return proto


def _refused(name: str, why: str) -> ModelFileError:
    return ModelFileError(
        f"{name} {why}: it could run without end. Ask for an export without that, or give "
        "--trust-code (trust_code=True) if you trust whoever made it",
        code="unbounded",
    )


def _inlined(proto: Any) -> Any:
    """The model with its functions written out, if that gives no more than MAX_NODES."""
    bodies = {(f.domain, f.name, f.overload): f.node for f in proto.functions}
    sizes: dict[tuple[str, str, str], int] = {}

    def count(nodes: Any, around: tuple[tuple[str, str, str], ...], depth: int) -> int:
        if depth > MAX_DEPTH:
            raise UnknownSize(f"has graphs inside graphs, deeper than {MAX_DEPTH}")
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            if key in around:
                raise UnknownSize("has a function that calls itself")
            if key in bodies:
                if key not in sizes:
                    sizes[key] = count(bodies[key], (*around, key), depth)
                total += sizes[key]
            total += 1
            total += sum(_GRAPH + count(g.node, around, depth + 1) for g in _graphs(node))
            if total > MAX_NODES:
                raise UnknownSize(f"has more than {MAX_NODES:,} nodes")
        return total

    count(proto.graph.node, (), 0)
    if not bodies:
        return proto
    from onnx import inliner

    return inliner.inline_local_functions(proto)


def _graphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _used(node: Any) -> Iterator[str]:
    """Names that a node reads, in graphs inside it too."""
    yield from node.input
    for graph in _graphs(node):
        for inner in graph.node:
            yield from _used(inner)
        yield from (value.name for value in graph.output)


class _Walk:
    """One way through a model, and what it has cost so far."""

    def __init__(self, proto: Any, shape: tuple[int, ...]) -> None:
        self.live, self.work, self.images = 0, 0.0, max(1, *shape[:1])
        opsets = {entry.domain: entry.version for entry in proto.opset_import}
        self._values = NodeValues(opsets, proto.ir_version)
        graph = proto.graph
        self._text = longest_text(graph) + _TEXT_BYTES
        scope: Scope = ChainMap(dict(_inputs(graph, shape)))
        self._graph(graph, scope, 1, 0)

    def _graph(self, graph: Any, scope: Scope, times: int, depth: int) -> list[Value]:
        """The outputs of a graph; what it holds is given back at its end."""
        if depth > MAX_DEPTH:
            raise UnknownSize(f"has graphs inside graphs, deeper than {MAX_DEPTH}")
        before, own = self.live, set[str]()
        scope.update(weights_of(graph))
        for sparse in graph.sparse_initializer:  # a runtime writes it out
            self._grow(self._size(scope[sparse.values.name]))
        last = {name: at for at, node in enumerate(graph.node) for name in _used(node)}
        last |= {value.name: len(graph.node) for value in graph.output}
        for at, node in enumerate(graph.node):
            found = self._node(node, scope, times, depth)
            for name, value in found.items():
                scope[name] = value
                own.add(name)
                self._grow(self._size(value))
            for name in {n for n in node.input if last[n] == at and n in own}:
                self.live -= 0 if scope[name].fixed else self._size(scope[name])
        self.live = before
        return [_known(scope, value.name) for value in graph.output]

    def _size(self, value: Value) -> int:
        return value.size_bytes + (value.count * self._text if value.kind == _TEXT else 0)

    def _grow(self, size_bytes: int) -> None:
        self.live += size_bytes
        if self.live > MAX_BYTES * self.images:
            raise UnknownSize(f"needs more than {MAX_BYTES >> 30} GiB for one image{self._each}")

    def _spend(self, work: float) -> None:
        self.work += work
        if self.work > MAX_WORK * self.images:
            raise UnknownSize(
                f"needs more than {MAX_WORK:.0e} operations for one image{self._each}"
            )

    @property
    def _each(self) -> str:
        return f" of {self.images}" if self.images > 1 else ""

    def _node(self, node: Any, scope: Scope, times: int, depth: int) -> dict[str, Value]:
        inner: dict[str, Callable[..., list[Value]]] = {"If": self._if, "Loop": self._loop}
        if node.domain in ("", "ai.onnx") and node.op_type in inner:
            self._spend(times * _NODE_WORK)
            answers = inner[node.op_type](node, scope, times, depth)
            return dict(zip(node.output, answers, strict=False))
        if node.op_type in CONTROL_FLOW or any(_graphs(node)):
            raise UnknownSize(f"has {ascii(node.op_type[:40])[1:-1]}, whose steps are not counted")
        taken = {name: _known(scope, name) for name in node.input if name}
        found = self._values.returned(node, taken)
        work, scratch = cost_of(node, [taken.get(n) for n in node.input], list(found.values()))
        self._spend(times * (_NODE_WORK + work))
        self._grow(scratch)
        self.live -= scratch
        return found

    def _if(self, node: Any, scope: Scope, times: int, depth: int) -> list[Value]:
        branches = {a.name: a.g for a in node.attribute}
        chosen = _known(scope, node.input[0]).content
        if chosen is not None:
            branch = branches["then_branch" if bool(np.all(chosen)) else "else_branch"]
            return self._graph(branch, scope.new_child(), times, depth + 1)
        both = [self._graph(g, scope.new_child(), times, depth + 1) for g in branches.values()]
        if [value.shape for value in both[0]] != [value.shape for value in both[-1]]:
            raise UnknownSize("has an If whose branches differ in shape")
        return both[0]

    def _loop(self, node: Any, scope: Scope, times: int, depth: int) -> list[Value]:
        count = _known(scope, node.input[0]).content if node.input[0] else None
        if count is None:
            raise UnknownSize("has a Loop without a constant count")
        steps = max(0, int(np.ravel(count)[0]))
        if times * steps > MAX_STEPS:
            raise UnknownSize(f"has loops of {times * steps:.0e} steps, more than {MAX_STEPS:,}")
        carried = [_known(scope, name).plain() for name in node.input[2:]]
        body = node.attribute[0].g
        given = [Value(7, ()), Value(9, ()), *carried]  # int64, bool
        inside = scope.new_child(
            {value.name: known for value, known in zip(body.input, given, strict=True)}
        )
        after = self._graph(body, inside, times * steps, depth + 1)[1:]
        if [v.shape for v in after[: len(carried)]] != [v.shape for v in carried]:
            raise UnknownSize("has a Loop that changes the shape of what it carries")
        rows = [Value(v.kind, (steps, *v.shape)) for v in after[len(carried) :]]
        return carried + rows


def _known(scope: Scope, name: str) -> Value:
    try:
        return scope[name]
    except KeyError:
        raise UnknownSize("reads a value that nothing makes") from None


def _stated(proto: Any) -> tuple[int, ...]:
    """The shape of one image, as the file states it."""
    try:
        stated = decode_metadata({p.key: p.value for p in proto.metadata_props})["input"]
    except ConfigError:
        stated = None
    spec = InputSpec.from_dict(stated or {})
    return (1, spec.in_chans, *spec.size)


def _inputs(graph: Any, shape: tuple[int, ...]) -> Iterator[tuple[str, Value]]:
    """The inputs of a graph for images of a shape, which free sides have. Some exporters write -1
    for such a side.
    """
    weights = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name not in weights:
            dims = enumerate(value.type.tensor_type.shape.dim)
            sides = tuple(
                dim.dim_value if dim.dim_value > 0 else shape[min(at, len(shape) - 1)]
                for at, dim in dims
            )
            yield value.name, Value(value.type.tensor_type.elem_type, sides)
