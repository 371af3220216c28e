"""What the modules of a model do, seen in one forward pass: which mix positions, and by what means;
where a branch is added to what it started from.

Names of classes and of children say nothing here, so that models of any library are read alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from ..errors import AnalysisError
from ._hooks import device_of, tensors_in, unchanged

KINDS = ("attention", "convolution", "mlp", "other")

_ADDS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
_MULTIPLIES = {"mul", "mul_", "__mul__", "__rmul__", "__imul__"}
_PRODUCTS = {"matmul", "__matmul__", "__rmatmul__", "bmm", "mm", "baddbmm", "einsum"}
_FUSED = {"scaled_dot_product_attention", "multi_head_attention_forward", "flex_attention"}
_OTHERWISE = (
    "pool",
    "fft",
    "lstm",
    "gru",
    "rnn",
    "cumsum",
    "interpolate",
)  # mix positions too, in other ways
_ACTIVATIONS = ("elu", "swish", "silu", "sigmoid", "tanh", "mish", "softplus", "glu")
_SAME = {
    "view", "reshape", "permute", "transpose", "flatten", "unflatten", "contiguous", "squeeze",
    "unsqueeze", "movedim", "to", "float", "clone", "dropout", "__getitem__", "__get__", "cat",
}  # fmt: skip


@dataclass
class Addition:
    """A branch joins what it started from.

    Args:
        at: number of events before it.
        makers: modules that returned the branch, the outermost last.
        enters: the first module that takes the sum; "" if none did.
    """

    at: int
    makers: tuple[str, ...]
    enters: str = ""


@dataclass
class Call:
    """The first call of a module.

    Args:
        params: of the module. given: number of the tensor that entered.
        start, stop: its events. outputs: shapes. adds: it adds two features itself.
        streams: tensors that a branch may join, and the number of their chain: 0 is what entered,
            others begin at a sum that it is no part of (a shortcut with a projection).
        chains: additions to each.
    """

    name: str
    params: int
    given: int
    start: int
    stop: int = 0
    outputs: list[tuple[int, ...]] = field(default_factory=list)
    adds: bool = False
    streams: Any = field(default_factory=WeakTensorKeyDictionary)
    chains: list[list[Addition]] = field(default_factory=lambda: [[]])

    @property
    def additions(self) -> list[Addition]:
        """Branches that join one after the other; none where a single one joins a projection."""
        longest = max(self.chains, key=len)
        return self.chains[0] if len(longest) < 2 else longest


class Trace(TorchFunctionMode):
    """A recording of one pass over two images.

    `calls` are in order of execution; `events` are what happened in the same order, with the name
    of the module that did it; `times` counts the calls; `known` are kinds found otherwise;
    `sums` are where two features were added, in numbers of events.
    """

    def __init__(self, model: nn.Module, image: tuple[int, int]) -> None:
        super().__init__()
        self.image = image  # (height, width)
        self.calls: dict[str, Call] = {}
        self.events: list[tuple[str, str]] = []
        self.times: Counter[str] = Counter()
        self.known: dict[str, str] = {}
        self.sums: list[int] = []
        self._modules = dict(model.named_modules())
        self._stack: list[Call] = []
        self._data: Any = WeakTensorKeyDictionary()  # what depends on the images -> its number
        self._made = 0
        self._activated = False
        self._makers: Any = WeakTensorKeyDictionary()  # -> modules that returned it
        self._sums: Any = WeakTensorKeyDictionary()  # -> additions that led to it
        self._weighted: Any = WeakTensorKeyDictionary()  # products of two features, not yet summed

    def kind_of(self, name: str) -> str:
        """What a module is, by all that happens in it; "other" if it did not run."""
        if name in self.known:
            return self.known[name]
        found = [
            call for key, call in self.calls.items() if key == name or key.startswith(f"{name}.")
        ]
        start = min((call.start for call in found), default=0)
        stop = max((call.stop for call in found), default=0)
        kind = self.kind_between(start, stop)
        return "other" if kind == "mlp" and not self._is_perceptron(start, stop) else kind

    def kind_between(self, start: int, stop: int) -> str:
        """Kind of a branch by the events between two."""
        count = Counter(what for what, _ in self.events[start:stop])
        weighs = count["weighing"] and not count["convolution"]
        if count["attention"] or count["product"] or weighs:
            return "attention"
        if count["convolution"]:
            return "convolution"
        dense = count["dense"] or self._is_perceptron(start, stop)
        return "mlp" if dense and not count["other"] else "other"

    def widens(self, start: int, stop: int) -> bool:
        """Whether it is a feed-forward with a convolution in it."""
        count = Counter(what for what, _ in self.events[start:stop])
        layers = count["dense"] + count["pointwise"]
        return self.kind_between(start, stop) == "convolution" and layers > 1

    def _is_perceptron(self, start: int, stop: int) -> bool:
        """Whether there is an activation between two layers of positions."""
        whats = [what for what, _ in self.events[start:stop]]
        layers = [i for i, what in enumerate(whats) if what in ("dense", "pointwise")]
        return len(layers) > 1 and "activation" in whats[layers[0] : layers[-1]]

    def attending(self) -> list[str]:
        """Modules that attend themselves, in order of execution."""
        found = [name for what, name in self.events if what in ("attention", "product")]
        return list(dict.fromkeys(found))

    def run(self, model: nn.Module, x: Tensor) -> None:
        """Record a pass."""
        self._number(x)
        with unchanged(model), ExitStack() as stack:
            for name, module in self._modules.items():
                for handle in self._watch(name, module):
                    stack.callback(handle.remove)
            with self:
                model(x)

    def _watch(self, name: str, module: nn.Module) -> Iterator[Any]:
        params = sum(p.numel() for p in module.parameters())

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            call = Call(name, params, 0, len(self.events))
            for x in list(tensors_in([args, kwargs]))[:1]:
                call.streams[x], call.given = 0, self._data.get(x, 0)
            for x in tensors_in(args[:1]):
                for addition in self._sums.get(x, ()):
                    addition.enters = addition.enters or name
            self.times[name] += 1
            self.calls.setdefault(name, call)
            self._stack.append(call)
            if hasattr(module, "attention_weights"):
                self.events.append(("attention", name))

        def after(_: nn.Module, __: Any, output: Any) -> None:
            call = self._stack.pop()
            call.stop = len(self.events)
            for x in tensors_in(output):
                call.outputs.append(tuple(x.shape))
                self._makers[x] = (*self._makers.get(x, ()), name)

        yield module.register_forward_pre_hook(before, with_kwargs=True)
        yield module.register_forward_hook(after)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [x for x in tensors_in([args, kwargs or {}]) if x in self._data]
        made = list(tensors_in(result))
        if given and made and self._stack:
            for x in made:
                self._number(x)
            name = getattr(func, "__name__", "")
            self._follow(name, given, made)
            what = self._event(name, args, given, made[0])
            if what:
                self._record(what)
        return result

    def _record(self, what: str) -> None:
        """An activation counts once a layer follows it."""
        by = self._stack[-1].name
        if what != "activation" and self._activated:
            self.events.append(("activation", by))
        if what != "activation":
            self.events.append((what, by))
        self._activated = what == "activation"

    def _number(self, x: Tensor) -> None:
        self._made += 1
        self._data[x] = self._made

    def _event(self, name: str, args: Any, given: list[Tensor], made: Tensor) -> str:
        if name in _FUSED:
            return "attention"
        if name in _PRODUCTS:
            together = "product" if min(made.shape[-2:]) > 1 else "weighing"
            return together if len(given) > 1 else "dense"
        if name.startswith("conv"):
            return "convolution" if max(args[1].shape[2:]) > 1 else "pointwise"
        if name == "linear":
            return "dense"
        if name in _ADDS and len(given) == 1 and isinstance(args[-1], Tensor):
            return "shift"
        if name == "sum":
            return "weighing" if given[0] in self._weighted else ""
        if any(part in name for part in _OTHERWISE):
            return "other"
        return "activation" if any(part in name for part in _ACTIVATIONS) else ""

    def _follow(self, name: str, given: list[Tensor], made: list[Tensor]) -> None:
        two = len(given) == 2 and given[0] is not given[1]
        if name in _ADDS and two:
            self._add(given, made[0])
        elif name in _MULTIPLIES and two:
            self._weighted[made[0]] = True
        elif name in _SAME or (name in _MULTIPLIES and len(given) == 1):
            for old in given:
                for new in made:
                    self._same(old, new, name != "cat")

    def _same(self, old: Tensor, new: Tensor, whole: bool) -> None:
        for known in (self._sums, self._weighted, *([self._makers] if whole else [])):
            if old in known:
                known[new] = known[old]
        for call in self._stack:
            if old in call.streams:
                call.streams[new] = call.streams[old]

    def _add(self, given: list[Tensor], total: Tensor) -> None:
        self._stack[-1].adds = True
        self.sums.append(len(self.events))
        mapped = total.ndim > 2 and len(total) == 2  # not, e.g., patches of all images together
        found = []
        for call in self._stack:
            known = [call.streams.get(x, len(call.chains)) for x in given]
            chain = min(known)
            if chain == len(call.chains):
                if call is not self._stack[-1]:
                    continue
                call.chains.append([])
            call.streams[total] = chain
            if mapped:
                branch = given[known.index(max(known))] if known[0] != known[1] else given[1]
                addition = Addition(len(self.events), self._makers.get(branch, ()))
                call.chains[chain].append(addition)
                found.append(addition)
        self._sums[total] = found


def trace(model: nn.Module, image: Tensor) -> Trace:
    """A recording of a pass over two copies of an image.

    Args: image: (1, C, H, W) or more images, of which the first is taken.
    Raises: AnalysisError if the model does not run on it.
    """
    device, dtype = device_of(model)
    x = image[:1].to(device, dtype).repeat(2, 1, 1, 1)
    found = Trace(model, (x.shape[2], x.shape[3]))
    try:
        found.run(model, x)
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise AnalysisError(
            f"{type(model).__name__} does not run on an image {tuple(image.shape[1:])}: {error}"
        ) from error
    return found
