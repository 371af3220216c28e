"""A model seen as something else: `zoo.create_model(..., features_only=True)`, which returns maps
from inside it, and `zoo.to_blocks`.

Features have timm's form: a module that returns a list of maps, with `feature_info.channels()` and
`.reduction()` for what is built on top, e.g. torchvision's `FeaturePyramidNetwork`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, overload

from torch import Tensor, nn

from ..errors import ConfigError, InputError
from ._feature_info import FeatureInfo
from ._feature_info import last_of_each_resolution as last_of_each_resolution

Size = tuple[int, int]  # (height, width) of images, in pixels

_ANY_SIZE = (1, 1)  # where the size of images does not matter


class FeatureNet(nn.Module):
    """A model that returns maps from inside, without what lies behind the last of them.

    Args:
        model: a classifier of the zoo; it is cut down in place.
        out_indices: entries of `model.feature_info`, as in timm: the last n, or a list in the order
            wanted. None means the last feature of every resolution.
    Shape: (B, in_chans, H, W) -> list of (B, C, h, w), without class tokens and without norm.
    Raises: ConfigError for an index that does not exist, or another kind of model.
    """

    def __init__(self, model: nn.Module, out_indices: int | Sequence[int] | None = None) -> None:
        super().__init__()
        if not hasattr(model, "forward_intermediates"):
            raise ConfigError(
                f"{type(model).__name__} has no forward_intermediates; expected a model of the zoo"
            )
        info = model.feature_info
        wanted = last_of_each_resolution(info) if out_indices is None else out_indices
        try:
            taken = model.prune_intermediate_layers(wanted, prune_norm=True)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"out_indices={out_indices!r}: {error}") from None
        if isinstance(wanted, Iterable):
            taken = [len(info) + index if index < 0 else index for index in wanted]
        self.out_indices = tuple(taken)
        self.feature_info = FeatureInfo(info, taken)
        self.in_chans = model.in_chans
        self.pretrained_cfg = _of_features(model.pretrained_cfg)
        self.norm = getattr(model, "features_only", False)  # dense prediction has its own norms
        self.model = model

    @property
    def default_cfg(self) -> Any:
        """timm's older name of `pretrained_cfg`."""
        return self.pretrained_cfg

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) -> maps (B, channels, h, w) in the order of `out_indices`."""
        maps = self.model.forward_intermediates(
            x, self.out_indices, norm=self.norm, stop_early=True, intermediates_only=True
        )
        found = dict(zip(sorted(set(self.out_indices)), maps, strict=True))
        return [found[index] for index in self.out_indices]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As on the model."""
        self.model.set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        """As on the model."""
        return {f"model.{name}" for name in self.model.no_weight_decay()}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """As on the model."""
        groups = self.model.group_matcher(coarse)
        blocks = [(_inside_model(pattern), order) for pattern, order in groups["blocks"]]
        return {"stem": _inside_model(groups["stem"]), "blocks": blocks}


def _inside_model(pattern: str) -> str:
    return pattern.replace("^", r"^model\.", 1)


def features_of(model: Any, out_indices: int | Sequence[int] | None = None) -> nn.Module:
    """A model that returns maps. A family with a form of its own for dense prediction (FCViT) takes
    that form. Raises: as `FeatureNet`.
    """
    if not hasattr(model, "make_features_only"):
        return FeatureNet(model, out_indices)
    model.make_features_only()
    if out_indices is not None:
        return FeatureNet(model, out_indices)
    cfg = model.pretrained_cfg
    args = {**cfg.model_args, "features_only": True}
    model.pretrained_cfg = replace(_of_features(cfg), model_args=args)
    model.feature_info = FeatureInfo(model.feature_info, range(len(model.feature_info)))
    found: nn.Module = model
    return found


def _of_features(cfg: Any) -> Any:
    return cfg and replace(cfg, num_classes=0, labels=(), sha256="")


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
        first = next(iter(self.values()), None)
        size = first.size_of(x) if isinstance(first, StepBlock) else None
        for block in self.values():
            x = block(x, size) if isinstance(block, StepBlock) else block(x)
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
    """The size (height, width) of the images of a sequence, as long as there is one.

    Args: bound: the only size that is allowed; None: any, and `seen` has the first two.
    """

    def __init__(self, bound: Size | None) -> None:
        self.bound = bound
        self.seen: list[Size] = []

    def check(self, size: Size) -> Size:
        """Raises: InputError if the sequence is bound to another one."""
        if self.bound is not None and size != self.bound:
            raise InputError(
                f"these blocks are bound to images of {_shown(self.bound)}; got {_shown(size)}; "
                "to_blocks(model, img_size=...) binds others"
            )
        return size

    def note(self, size: Size) -> None:
        """Images of this size went in."""
        if len(self.seen) < 2 and size not in self.seen:
            self.seen.append(size)

    def only(self) -> Size:
        """The size that a block may rely on. Raises: InputError if none is known, or several."""
        if self.bound is not None:
            return self.bound
        if len(self.seen) == 1:
            return self.seen[0]
        several = " and of ".join(map(_shown, self.seen))
        why = f"images of {several} went in" if several else "no image went in"
        raise InputError(
            f"the patch grid is not known: {why}; run the sequence from its first block, or give "
            "the size, to_blocks(model, img_size=(height, width))"
        )


def _shown(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


class StepBlock(nn.Module):
    """A step of a model that is more than one of its modules called on a tensor.

    It may check and pad images, know the patch grid, add a class token, or pool. The grid is that
    of `size`, if it is given; else that of the images which the sequence is bound to, or which went
    through its first block, as long as all of them had one size.
    """

    def __init__(self, model: nn.Module, number: int, name: str, entered: _Entered) -> None:
        super().__init__()
        self._steps = model.steps
        self._number = number
        self._entered = entered
        one, other = (model.steps(size)[number][1] for size in (_ANY_SIZE, (2, 2)))
        self._needs_size = one != other  # a method of the model is equal to itself
        inner = dict(model.named_modules()).get(name)
        if inner is not None:
            self.module = inner

    def size_of(self, x: Tensor) -> Size | None:
        """(height, width) of the images `x`, if this is the first block."""
        return (x.shape[2], x.shape[3]) if self._number == 0 and x.ndim == 4 else None

    def forward(self, x: Tensor, size: Size | None = None) -> Tensor:
        entering = self.size_of(x)
        if entering is not None:
            size = self._entered.check(entering)
        elif size is None:  # images of another rank are refused by the model's own check
            relies = self._needs_size and self._number > 0
            size = self._entered.only() if relies else _ANY_SIZE
        _, step = self._steps(size)[self._number]
        x = step(x)
        if entering is not None:
            self._entered.note(entering)
        return x


def to_blocks(model: nn.Module, img_size: int | Size | None = None) -> BlockSequence:
    """The blocks of a model of the zoo, from images to logits; parameters are the model's own.

    Blocks are those modules of the model that take one tensor, and `StepBlock`s for what else
    happens: the way in, class tokens, the head. A sequence that begins with the first block takes
    images of any size. Blocks that need the patch grid and are run on their own or in a later
    slice take it from the images that went in; once there were two sizes they refuse.

    Args:
        img_size: of all images, in pixels, its side or (height, width): then any block runs on its
            own, in any thread or process, and other images are refused.
    Raises: ConfigError for another kind of model, or an impossible size. Blocks raise InputError.
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
    entered = _Entered(_bound(img_size))
    return BlockSequence(
        (name, step if isinstance(step, nn.Module) else StepBlock(model, i, name, entered))
        for i, (name, step) in enumerate(model.steps(_ANY_SIZE))
    )


def _bound(img_size: int | Size | None) -> Size | None:
    if img_size is None:
        return None
    size = img_size if isinstance(img_size, Sequence) else (img_size, img_size)
    if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise ConfigError(f"img_size must be a side or (height, width) in pixels; got {img_size!r}")
    return size[0], size[1]
