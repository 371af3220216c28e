"""The forward pass as named steps: features from inside, blocks, layer groups, checkpointing.

Names and semantics are timm's (`forward_intermediates`, `group_matcher`, ...). Where we differ on
purpose: nothing is written down twice, all of them follow from one list of steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from numbers import Integral
from typing import Any, TypeGuard

from torch import Tensor, nn

from ..errors import ConfigError
from ..layers.exporting import ceil_div
from ._recomputing import recompute

Step = tuple[str, Callable[[Tensor], Tensor]]
FORMATS = ("NCHW", "NLC")

_ANY_SIZE = (1, 1)  # names of steps do not depend on the size of images
_NOT_DECAYED = ("cls_token", "pos_embed", "pos_embedding")
_JOINS_PREVIOUS = 99999  # timm's mark of modules that belong to the group before them


class SteppedModel(nn.Module):
    """A model that can be walked: subclasses set `feature_info` and implement `forward_head`.

    The children run one after another, in the order of `_parts`; a model that passes more than one
    tensor from step to step implements `_trunk`, one made of tokens `_token_grid`.
    """

    feature_info: list[dict[str, Any]]
    head_name: str = "classifier"  # of the child that turns features into logits
    grad_checkpointing: bool = False

    # What families implement

    def _prepared(self, x: Tensor) -> Tensor:
        """Images as the first module takes them: checked, padded where it needs that."""
        raise NotImplementedError

    def _parts(self) -> list[str]:
        """Names of the children between images and features, in the order they run."""
        return [name for name, _ in self.named_children() if name != self.head_name]

    def _trunk(self, size: tuple[int, int]) -> list[Step]:
        """Steps from images of `size` (height, width) to the features."""
        parts = [_opened(name, getattr(self, name)) for name in self._parts()]
        (name, first), *rest = (step for part in parts for step in part)
        return [(name, partial(self._enter, first)), *rest]

    def _enter(self, first: nn.Module, x: Tensor) -> Tensor:
        return first(self._prepared(x))

    def _token_grid(self, size: tuple[int, int]) -> tuple[int, int] | None:
        """Rows and columns of the first feature's tokens; None where features are maps."""
        return None

    def _final_norm(self, info: dict[str, Any]) -> nn.Module:
        """The norm that `forward_intermediates(norm=True)` puts on this feature: none here."""
        return nn.Identity()

    # Steps, features

    def steps(self, size: tuple[int, int]) -> list[Step]:
        """The forward pass on images of `size` (height, width), as functions of one tensor.

        A step bears the name of the module that it runs, or of the parameter that it adds. The last
        one is the head, unless the model has none.
        """
        if not hasattr(self, self.head_name):
            return self._trunk(size)
        return [*self._trunk(size), (self.head_name, self.forward_head)]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Features from inside, of the modules of `feature_info`, as timm's method of this name.

        Args:
            x: images (B, in_chans, H, W).
            indices: entries of `feature_info`: all (None), the last n (an int), or a list, negative
                ones from the end. They come back in the order of execution, each once.
            norm: apply the model's final norm to the features of its width, where it has one.
            stop_early: compute nothing behind the last feature asked for.
            output_fmt: "NCHW" for maps (B, C, h, w), "NLC" for tokens (B, h * w, C), row-major.
            intermediates_only: leave out the first result.
        Returns: what `forward_features` returns, and the list of features without class tokens.
        Raises: ConfigError for an unknown index or format, InputError for a wrong input.
        """
        if output_fmt not in FORMATS:
            raise ConfigError(f"output_fmt must be one of {', '.join(FORMATS)}; got {output_fmt!r}")
        wanted = take_indices(len(self.feature_info), indices)
        x = self._prepared(x)
        trunk = self._trunk(size := (x.shape[2], x.shape[3]))
        ends = self._ends([name for name, _ in trunk])
        stop = ends[wanted[-1]] + 1 if stop_early else len(trunk)
        found: list[Tensor] = []
        for number, (_, step) in enumerate(trunk[:stop]):
            x = step(x)
            here = [index for index in wanted if ends[index] == number]
            found += [self._as_feature(x, index, size, norm, output_fmt) for index in here]
        if intermediates_only:
            return found
        if self._width(wanted[-1]) == self._width(-1):  # what follows the last block fits
            for _, step in trunk[max(stop, ends[-1] + 1) :]:
                x = step(x)
        return x, found

    def _width(self, index: int) -> int:
        return self.feature_info[index]["num_chs"]

    def _ends(self, names: Sequence[str]) -> list[int]:
        """For every feature the number of the step whose output it is."""
        return [
            max(i for i, name in enumerate(names) if _inside(name, info["module"]))
            for info in self.feature_info
        ]

    def _as_feature(
        self, x: Tensor, index: int, size: tuple[int, int], norm: bool, output_fmt: str
    ) -> Tensor:
        info = self.feature_info[index]
        x = self._final_norm(info)(x) if norm else x
        if x.ndim == 4:  # (B, C, h, w)
            return x if output_fmt == "NCHW" else x.flatten(2).transpose(1, 2)
        x = x[:, info.get("num_prefix_tokens", 0) :]  # (B, h * w, C)
        if output_fmt == "NLC":
            return x
        shrunk = info["reduction"] // self.feature_info[0]["reduction"]
        rows, columns = self._token_grid(size)
        grid = (ceil_div(rows, shrunk), ceil_div(columns, shrunk))
        return x.transpose(1, 2).unflatten(2, grid).contiguous()

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] | None = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Remove what the features of `indices` do not need; then only features can be computed.

        Args: as timm's method of this name; `prune_norm` removes a norm after the last block too.
        Returns: the indices, absolute and in the order of execution.
        """
        wanted = take_indices(len(self.feature_info), indices)
        names = [name for name, _ in self._trunk(_ANY_SIZE)]
        ends, modules = self._ends(names), dict(self.named_modules())
        for number in range(ends[wanted[-1]] + 1, len(names)):
            if names[number] in modules and (number <= ends[-1] or prune_norm):
                self.set_submodule(names[number], _Skipped())
        self.feature_info = self.feature_info[: wanted[-1] + 1]
        if prune_head and hasattr(self, self.head_name):
            delattr(self, self.head_name)
        return wanted

    # Training

    def no_weight_decay(self) -> set[str]:
        """Parameters that recipes do not decay besides one-dimensional ones: tokens, positions."""
        names = (name for name, _ in self.named_parameters())
        return {name for name in names if name.rpartition(".")[2] in _NOT_DECAYED}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Which parameter belongs to which layer, for timm's layer-wise decay.

        Args: coarse: one group for each entry of `feature_info` instead of one for each block.
        Returns: regular expressions in timm's form: the stem, then the blocks in the order of
            execution; what they do not match, the head, is the last group.
        """
        (stem, _), *blocks = self._block_modules()
        names = [name for name, _ in blocks]
        everything = [name for name, _ in self._trunk(_ANY_SIZE)]
        ends = self._ends(everything)
        layers = []
        for name in names:
            place = everything.index(name)
            group = sum(end < place for end in ends) if coarse else place
            group = group if place <= ends[-1] else _JOINS_PREVIOUS
            layers.append((_prefix([name]), (group,)))
        loose = [name for name, _ in self.named_parameters(recurse=False)]  # tokens, positions
        return {"stem": _prefix([stem, *loose]), "blocks": layers}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the inside of every block in backward instead of keeping it: less memory.

        A `forward` that somebody gave a block, e.g. hooks of accelerate, is recomputed too, and is
        the block's again afterwards.
        """
        self.grad_checkpointing = enable
        for _, block in self._block_modules():
            recompute(block, enable)

    def _block_modules(self) -> list[tuple[str, nn.Module]]:
        modules = dict(self.named_modules())
        return [(name, modules[name]) for name, _ in self._trunk(_ANY_SIZE) if name in modules]


class _Skipped(nn.Module):
    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return x


def take_indices(count: int, indices: int | Iterable[int] | None) -> list[int]:
    """Absolute numbers out of range(count), ascending: all (None), the last n, or those listed.

    Raises: ConfigError for a number out of range, for none at all, or for what is no number.
    Example: ``take_indices(5, 2) -> [3, 4]``, ``take_indices(5, (-1, 0)) -> [0, 4]``
    """
    if indices is None:
        return list(range(count))
    if _is_number(indices):
        if not 0 < indices <= count:
            raise ConfigError(f"the last {indices} features were asked for; the model has {count}")
        return list(range(count - indices, count))
    listed = list(indices) if isinstance(indices, Iterable) else []
    good = all(_is_number(index) and -count <= index < count for index in listed)
    if not listed or not good:
        raise ConfigError(
            f"feature indices must be whole numbers in -{count}..{count - 1}, at least one; got "
            f"{indices!r:.80}"
        )
    return sorted({index % count for index in listed})


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def on_grid(block: nn.Module, grid: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """A block of tokens that takes their grid as second argument, as a function of the tokens."""
    return lambda x: block(x, grid)


def _opened(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """A container as its blocks, one by one; anything else, a stack of plain layers too, as it is.

    A block is a module with parts of its own.
    """
    opens = type(module) in (nn.Sequential, nn.ModuleList)
    if opens and not len(module):
        return
    if opens and any(next(child.children(), None) is not None for child in module):
        for key, child in module.named_children():
            yield from _opened(f"{name}.{key}", child)
    else:
        yield name, module


def _inside(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _prefix(names: Sequence[str]) -> str:
    return rf"^(?:{'|'.join(re.escape(name) for name in names)})(?:\.|$)"
