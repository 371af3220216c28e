"""The units of a model in the order they run, with their kind: what "depth" means in the analyses.

After Park & Kim, arXiv:2202.06709, figure 2a: one unit for the way in, one for every
residual block of a CNN, two for every transformer block, after the attention and after the MLP.
What changes the resolution between blocks is a unit too. Blocks and kinds follow from what modules
do in a forward pass (`_trace`), not from their names.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AnalysisError
from ..evaluation.checks import check_list, check_model
from ._blocks import find_blocks, find_branches
from ._trace import KINDS, Trace, trace


@dataclass(frozen=True)
class Unit:
    """A place in a model whose feature map is measured.

    Args:
        name: for figures, e.g. "blocks.0 attention".
        kind: one of `KINDS`.
        module: name of the module that is watched.
        entering: watch what enters the module instead of what leaves it.
        block: the block that it is in, if not `module` itself.
    """

    name: str
    kind: str
    module: str
    entering: bool = False
    block: str = ""


def find_units(
    model: nn.Module, names: Sequence[str] | None = None, image: Tensor | None = None
) -> tuple[Unit, ...]:
    """Units of a model of any library, in the order they run. The model runs once.

    Args:
        names: modules to watch instead, e.g. ``["layer1.0.conv2"]``: any that return maps.
        image: (1, C, H, W) to run it on; default: see `look_at`.
    Raises: AnalysisError for a name that does not exist, or a model without blocks.
    """
    check_names(model, names or ())
    found: list[Unit] = []
    if list(model.children()):
        seen = look_at(model, image)
        if names is not None:
            return tuple(Unit(name, seen.kind_of(name), name) for name in names)
        found = [unit for block in find_blocks(model, seen) for unit in _units_of(block, seen)]
    if not found:
        raise AnalysisError(
            f"{type(model).__name__} has no blocks that could be found; name the modules to watch"
        )
    return tuple(found)


def check_names(model: nn.Module, names: Sequence[str]) -> None:
    """Raise AnalysisError for a name that no module of the model has, ConfigError for no list."""
    check_model(model, AnalysisError)
    modules = dict(model.named_modules())
    unknown = [name for name in check_list("names", names) if name not in modules or not name]
    if unknown:
        raise AnalysisError(f"no modules {unknown}; see model.named_modules()")


def look_at(model: nn.Module, image: Tensor | None = None) -> Trace:
    """A recording of a pass.

    Args: image: (1, C, H, W); default: zeros of the size that the model states, as the zoo, timm
        and transformers do, or else of 224 or 32 pixels.
    Raises: AnalysisError if the model does not run on it.
    """
    if image is not None:
        return trace(model, image)
    shapes = _stated(model)
    for shape in shapes[:-1]:
        with contextlib.suppress(AnalysisError):
            return trace(model, torch.zeros(1, *shape))
    return trace(model, torch.zeros(1, *shapes[-1]))


def _stated(model: Any) -> list[tuple[int, ...]]:
    cfg: Any = getattr(model, "pretrained_cfg", None)
    config = getattr(model, "config", None)
    if hasattr(cfg, "input"):
        return [(cfg.input.in_chans, *cfg.input.size)]
    if isinstance(cfg, dict) and "input_size" in cfg:
        return [tuple(cfg["input_size"])]
    channels = getattr(config, "num_channels", getattr(model, "in_chans", 3))
    sides = getattr(config, "image_size", None)
    if sides is None:
        return [(channels, 224, 224), (channels, 32, 32)]
    return [(channels, *(sides if isinstance(sides, list | tuple) else (sides, sides)))]


def _units_of(block: str, seen: Trace) -> Iterator[Unit]:
    """A unit for each branch after which the sum can be watched."""
    branches = find_branches(block, seen)
    if len(branches) < 2:
        yield Unit(block, branches[0].kind if branches else seen.kind_of(block), block)
        return
    kinds: list[str] = []
    times: Counter[str] = Counter()
    for branch in branches:
        kinds.append(branch.kind)
        last = branch is branches[-1]
        if last or branch.enters:
            kind = min(kinds, key=KINDS.index)
            kinds.clear()
            times[kind] += 1
            again = f" {times[kind]}" if times[kind] > 1 else ""
            watched = block if last else branch.enters
            yield Unit(f"{block} {kind}{again}", kind, watched, not last, block)
