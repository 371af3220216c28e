"""Any model of the zoo as the sequence of its blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import overload

from torch import Tensor, nn

from .errors import ConfigError


class BlockSequence:
    """Blocks with their names, in the order they run; running them all is running the model.

    Iterating gives pairs (name, block), also as `names`, `values()` and `items()`; ``blocks[3]`` is
    a pair, ``blocks["blocks.3"]`` a block, a slice is a shorter sequence.

    Args: pairs: names and modules, each a function of one tensor.
    Shape: what the first block takes -> what the last one returns.
    """

    def __init__(self, pairs: Iterable[tuple[str, nn.Module]]) -> None:
        self._pairs = list(pairs)

    def __call__(self, x: Tensor) -> Tensor:
        for _, block in self._pairs:
            x = block(x)
        return x

    def __iter__(self) -> Iterator[tuple[str, nn.Module]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    @overload
    def __getitem__(self, key: int) -> tuple[str, nn.Module]: ...
    @overload
    def __getitem__(self, key: str) -> nn.Module: ...
    @overload
    def __getitem__(self, key: slice) -> BlockSequence: ...
    def __getitem__(
        self, key: int | str | slice
    ) -> tuple[str, nn.Module] | nn.Module | BlockSequence:
        if isinstance(key, slice):
            return BlockSequence(self._pairs[key])
        return dict(self._pairs)[key] if isinstance(key, str) else self._pairs[key]

    @property
    def names(self) -> list[str]:
        """Names of the blocks: those of the model's modules, or of a parameter that a step adds."""
        return [name for name, _ in self._pairs]

    def items(self) -> list[tuple[str, nn.Module]]:
        """Pairs (name, block)."""
        return list(self._pairs)

    def values(self) -> list[nn.Module]:
        """The blocks."""
        return [block for _, block in self._pairs]

    def without(self, *names: str) -> BlockSequence:
        """The sequence with these blocks left out: a lesion. Their shapes must allow it.

        Raises: ConfigError for a name that is not in the sequence.
        """
        unknown = set(names) - set(self.names)
        if unknown:
            raise ConfigError(f"no blocks {sorted(unknown)}; there are {', '.join(self.names)}")
        return BlockSequence(pair for pair in self._pairs if pair[0] not in names)


class _Entered:
    """Height and width of the images that entered a sequence last."""

    size: tuple[int, int] | None = None


class StepBlock(nn.Module):
    """A step of a model that is more than one of its modules called on a tensor.

    It may check and pad images, know the patch grid, add a class token, or pool. The grid is that
    of the images which last went through the first block of the same sequence.
    """

    def __init__(self, model: nn.Module, number: int, name: str, entered: _Entered) -> None:
        super().__init__()
        self._steps = model.steps
        self._number = number
        self._entered = entered
        inner = dict(model.named_modules()).get(name)
        if inner is not None:
            self.module = inner

    def forward(self, x: Tensor) -> Tensor:
        if self._number == 0:  # of another rank it is refused by the model's own check
            self._entered.size = (x.shape[2], x.shape[3]) if x.ndim == 4 else (1, 1)
        if self._entered.size is None:
            raise ValueError("run the sequence from its first block: the patch grid is not known")
        _, step = self._steps(self._entered.size)[self._number]
        return step(x)


def to_blocks(model: nn.Module) -> BlockSequence:
    """The blocks of a model of the zoo, from images to logits; parameters are the model's own.

    Blocks are those modules of the model that take one tensor, and `StepBlock`s for what else
    happens: the way in, class tokens, the head.

    Raises: ConfigError for another kind of model.
    Example:
        >>> blocks = zoo.to_blocks(zoo.create_model("convit_nano").eval())
        >>> blocks.names
        ['patch_embed', 'blocks.0', 'blocks.1', 'blocks.2', 'cls_token', 'blocks.3', 'norm', 'head']
        >>> for name, block in blocks:
        ...     x = block(x)
    """
    if not hasattr(model, "steps"):
        raise ConfigError(
            f"{type(model).__name__} cannot be taken apart; to_blocks takes classifiers that "
            "zoo.create_model built"
        )
    entered = _Entered()
    return BlockSequence(
        (name, step if isinstance(step, nn.Module) else StepBlock(model, i, name, entered))
        for i, (name, step) in enumerate(model.steps((1, 1)))
    )
