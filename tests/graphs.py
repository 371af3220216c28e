"""What torch made of a module once it need not make again: the dearest part of every export.

`torch.export.export` and `torch.onnx.export` take 98 % of the time of a small export, and the same
few models are exported all over the suite. A second call with a module of the same classes, weights
and settings gets the answer of the first. All code of ours runs every time: copies, checks,
rewrites, files and parity. Tests of the exporting itself (that it repeats to the byte, that it
leaves the model alone) are marked `exports_anew`.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial, update_wrapper
from typing import Any

import pytest
import torch
from torch import nn

from zoo.factory.description import PretrainedCfg

LARGEST = 8 << 20  # bytes of a module's tensors; larger models are exported once or twice at most
KEPT = 64  # programs, the last ones used


class _Writer(pickle.Pickler):
    """Everything that a module consists of; of tensors a digest, and which of them are one."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=4)
        self._seen: dict[int, int] = {}
        self.size = 0

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, PretrainedCfg):  # labels and names; no forward reads them
            return "description"
        if not isinstance(value, torch.Tensor):
            return None
        order = self._seen.setdefault(id(value), len(self._seen))
        whole = value.detach().cpu().contiguous()
        self.size += whole.nbytes
        digest = hashlib.sha256(whole.flatten().view(torch.uint8).numpy()).hexdigest()
        about = (value.dtype, value.shape, value.stride(), value.requires_grad, value.device)
        return type(value).__name__, order, *map(str, about), digest


def identity(module: nn.Module, *settings: Any) -> tuple[Any, ...] | None:
    """What two modules share only if they are the same code with the same weights; None for what is
    too large, or cannot be written down (a function of a test's own, a hook).
    """
    writer = _Writer(stream := io.BytesIO())
    try:
        writer.dump((module, settings))
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError):
        return None
    if writer.size > LARGEST:
        return None
    code = tuple(dict.fromkeys((type(m), type(m).forward) for m in module.modules()))
    around = (torch.get_default_dtype(), torch.is_grad_enabled())
    return hashlib.sha256(stream.getvalue()).digest(), code, around


def _told(settings: dict[str, Any]) -> str:
    """Settings in words, with the bounds of sizes, which not every repr of them says."""
    leaves = torch.utils._pytree.tree_leaves(settings)
    bounds = [(leaf.min, leaf.max) for leaf in leaves if isinstance(leaf, torch.export.Dim)]
    return f"{sorted(settings.items())} {bounds}"


class Made:
    """Programs and graphs by what they were made of."""

    def __init__(self) -> None:
        self.capture, self.translate = torch.export.export, torch.onnx.export
        self._programs: OrderedDict[Any, Any] = OrderedDict()
        self._graphs: dict[int, dict[str, Any]] = {}  # by the id of a program that is kept

    def program(self, module: nn.Module, *args: Any, **settings: Any) -> Any:
        """As `torch.export.export`."""
        key = identity(module, args, _told(settings))
        if key is None:
            return self.capture(module, *args, **settings)
        if key not in self._programs:
            self._programs[key] = self.capture(module, *args, **settings)
            while len(self._programs) > KEPT:
                _, oldest = self._programs.popitem(last=False)
                self._graphs.pop(id(oldest), None)
        self._programs.move_to_end(key)
        return self._programs[key]

    def graph(self, program: Any, *args: Any, **settings: Any) -> Any:
        """As `torch.onnx.export`; the `model_proto` of the answer is a new one at every look."""
        if args or not any(program is kept for kept in self._programs.values()):
            return self.translate(program, *args, **settings)
        graphs = self._graphs.setdefault(id(program), {})
        key = _told(settings)
        if key not in graphs:
            graphs[key] = self.translate(program, **settings)
        return graphs[key]


@pytest.fixture(scope="session", autouse=True)
def _graphs_made_once() -> Iterator[Made]:
    made = Made()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.export, "export", _in_place_of(made.capture, made.program))
        patch.setattr(torch.onnx, "export", _in_place_of(made.translate, made.graph))
        yield made


def _in_place_of(original: Callable[..., Any], stand_in: Callable[..., Any]) -> Callable[..., Any]:
    """The stand-in with the signature of the original, which timm reads before it calls."""
    return update_wrapper(partial(stand_in), original)


@pytest.fixture(autouse=True)
def _graphs_made_anew(
    request: pytest.FixtureRequest, _graphs_made_once: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In tests marked `exports_anew` torch works every time."""
    if request.node.get_closest_marker("exports_anew"):
        monkeypatch.setattr(torch.export, "export", _graphs_made_once.capture)
        monkeypatch.setattr(torch.onnx, "export", _graphs_made_once.translate)
