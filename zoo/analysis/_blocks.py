"""Where the blocks of a model are, and what the residual branches of each are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby

from torch import nn

from ..errors import ConfigError
from ..models._views import StepBlock, to_blocks
from ._maps import map_size
from ._trace import KINDS, Addition, Call, Trace

_POOLED = 9  # more positions than that do not become one by a stride


@dataclass(frozen=True)
class Branch:
    """A residual branch of a block, or neighbouring ones of one kind.

    Args:
        kind: one of `KINDS`.
        module: its heaviest module, which stands for it in names.
        outputs: modules that return what is added; none: it is not added, or by nobody.
        enters: the first module in the block that takes the sum; "" if none does.
    """

    kind: str
    module: str
    outputs: tuple[str, ...]
    enters: str


def find_branches(block: str, seen: Trace) -> list[Branch]:
    """Branches of a block in the order they run; neighbours of one kind count as one."""
    call = seen.calls.get(block)
    if call is None:
        return []
    entered = [step.at for step in call.additions if step.enters.startswith(f"{block}.")]
    if not any(entered[-1:] < [at] <= [call.stop] for at in seen.sums):  # of the rest, no branch
        entered = entered[:-1]
    ends = [*entered, call.stop]
    pairs = zip([call.start, *entered], ends, strict=True)
    found = [_branch(call, seen, start, stop) for start, stop in pairs if start < stop]
    if len(found) < 2:
        return []
    return [_as_one(list(group)) for _, group in groupby(found, lambda branch: branch.kind)]


def _branch(block: Call, seen: Trace, start: int, stop: int) -> Branch:
    """What happens in a block between two events."""
    prefix = f"{block.name}."
    inside = [
        call
        for name, call in seen.calls.items()
        if name.startswith(prefix) and start <= call.start < call.stop <= stop
    ]
    heaviest = max(inside, key=lambda call: (call.params, -len(call.name)), default=block)
    steps = [step for step in block.additions if start < step.at <= stop]
    added = bool(steps) and steps[-1].at == stop
    last = stop == block.stop
    feeds_forward = last and start > block.start and seen.widens(start, stop)
    return Branch(
        "mlp" if feeds_forward else seen.kind_between(start, stop),
        heaviest.name,
        tuple(_returning(step, prefix, seen) for step in steps) if added else (),
        steps[-1].enters if steps and not last else "",
    )


def _returning(step: Addition, prefix: str, seen: Trace) -> str:
    """The outermost module in a block that returned what is added, and ran once; "" for none."""
    makers = [name for name in step.makers if name.startswith(prefix) and seen.times[name] == 1]
    return makers[-1] if makers else ""


def _as_one(branches: list[Branch]) -> Branch:
    outputs = [branch.outputs for branch in branches]
    together = tuple(chain.from_iterable(outputs)) if all(outputs) else ()
    return replace(branches[0], outputs=together, enters=branches[-1].enters)


def find_blocks(model: nn.Module, seen: Trace) -> list[str]:
    """Names of the modules that make up the trunk: the way in, then the blocks; no lone norms,
    and nothing whose output has no map. A model of the zoo says itself.
    """
    try:
        steps = to_blocks(model)
    except ConfigError:
        return _Trunk(model, seen).names()
    modules = dict(model.named_modules())
    kept = [name for name, _ in steps if name in modules and list(modules[name].children())]
    last = steps[-1]
    return [name for name in kept if not (name == last[0] and isinstance(last[1], StepBlock))]


class _Trunk:
    """Blocks of a model that does not name them: modules that join a branch to something, and
    what lies between them. Containers, stages and wrappers are entered, whatever their class.
    """

    def __init__(self, model: nn.Module, seen: Trace) -> None:
        self.modules, self.seen = dict(model.named_modules()), seen
        self.ran = list(dict.fromkeys(name for called in seen.calls for name in _outwards(called)))
        joining = [name for name, call in seen.calls.items() if call.adds]
        self.around = Counter(outer for name in joining for outer in list(_outwards(name))[1:])
        self.joining = len(joining)

    def names(self) -> list[str]:
        """In the order they run; a model of one block is taken apart."""
        found = self._with_maps(self._inside("", True))
        while len(found) == 1:
            deeper = self._with_maps(self._inside(found[0], False))
            if len(deeper) < 2:
                break
            found = deeper
        return found

    def _inside(self, name: str, first: bool) -> list[str]:
        found: list[str] = []
        prefix = f"{name}." if name else ""
        children = [f"{prefix}{key}" for key, _ in self.modules[name].named_children()]
        for child in sorted((c for c in children if c in self.ran), key=self.ran.index):
            found += self._at(child, first and not found)
        return sorted(found, key=self.ran.index)

    def _at(self, name: str, first: bool) -> list[str]:
        call = self.seen.calls.get(name)
        if call is None:  # a list of modules
            return self._inside(name, False)
        if call.start == call.stop:  # a norm, an activation
            return []
        if not list(self.modules[name].children()):
            return [name] if self.seen.kind_of(name) in ("attention", "convolution") else []
        if call.adds or not self._is_entered(name, first):
            return [name]
        inner = [self.seen.calls[block] for block in self._inside(name, first)]
        beside = len({call.given for call in inner}) < len(inner)
        folded = any(self._is_folded(call.outputs[0]) for call in inner)
        if not (beside or folded) or not self._size(name):
            return [call.name for call in inner]
        if folded:
            self.seen.known[name] = min((self._kind(c.name) for c in inner), key=KINDS.index)
        return [name]

    def _kind(self, name: str) -> str:
        kinds = [branch.kind for branch in find_branches(name, self.seen)]
        return min(kinds or [self.seen.kind_of(name)], key=KINDS.index)

    def _is_entered(self, name: str, first: bool) -> bool:
        """First comes the way in, which may have residual blocks, but not most of them."""
        module = self.modules[name]
        if name in self.around:
            return not first or 2 * self.around[name] > self.joining
        parts = [f"{name}.{key}" for key, child in module.named_children() if [*child.children()]]
        calls = [self.seen.calls[part] for part in parts if part in self.seen.calls]
        listed = isinstance(module, nn.Sequential) and any(c.start < c.stop for c in calls)
        return not first and (listed or hasattr(module, "blocks"))

    def _is_folded(self, shape: Sequence[int]) -> bool:
        """Whether it is no map because positions went elsewhere, not because they were pooled."""
        return shape[0] != 2 or (len(shape) > 3 and not map_size(shape, self.seen.image))

    def _size(self, name: str) -> int:
        shapes = self.seen.calls[name].outputs
        return max((map_size(shape, self.seen.image) for shape in shapes), default=0)

    def _with_maps(self, names: Sequence[str]) -> list[str]:
        """Those of the names whose output has a map, and that do not run inside another."""
        kept: list[Call] = []
        before = 0
        for name in names:
            call, size = self.seen.calls[name], self._size(name)
            nested = any(outer.start <= call.start < outer.stop for outer in kept)
            if not nested and (size > 1 or (size == 1 and before <= _POOLED)):
                kept.append(call)
                before = size
        return [call.name for call in kept]


def _outwards(name: str) -> Iterator[str]:
    """``"a.b.c" -> "a.b.c", "a.b", "a"``."""
    while name:
        yield name
        name = name.rpartition(".")[0]
