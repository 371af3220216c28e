"""Which axes of an exported file may vary, and the sizes at which that is executed first.

Loads no torch: files are verified without it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zoo.catalog.weights_records import InputSpec
from zoo.errors import ExportError

from ..spec import ExportSpec

if TYPE_CHECKING:
    from torch import nn

LEAST = 2  # smallest height and width in strides: maps of one pixel take other branches
_ANY = 32  # multiple for modules that do not say how much they shrink an image


@dataclass(frozen=True)
class Axes:
    """The batch always varies; height and width do if `multiple` is not 0.

    Args:
        size: height and width in pixels that the model is made for, or that the file is fixed at.
        multiple: height and width may be any multiple of this many pixels, from two on; 1 means
            any number of pixels, since the graph pads between two strides as the model does.
        stride: of the model, in pixels; `multiple` by default.
        least: smallest height and width in pixels, where `multiple` is 1.
        unguarded: the model's forward has no branch on the size, so that what `torch.export` noted
            about the example (more than one window) need not hold for other sizes.
    """

    size: tuple[int, int]
    multiple: int = 0
    stride: int = 0
    least: int = 1
    unguarded: bool = False

    @property
    def strided(self) -> Axes:
        """The same in whole strides, for formats whose programs hold what sizes they were made at:
        a trace has no padding, and a `torch.export` archive guards the sizes between.
        """
        return replace(self, multiple=self.stride) if self.multiple == 1 else self

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """What is executed before the file gets its name: with dynamic size the model's own size
        and two others, prime multiples of the stride and not square; with any number of pixels two
        more, between strides, one with a side that most windows are larger than.
        """
        if not self.multiple:
            return (self.size,)
        stride = self.stride or self.multiple
        others = ((5, 7), (11, 3), (13, 5))
        sizes = [(h * stride, w * stride) for h, w in others]
        sizes = [self.size, *[size for size in sizes if size != self.size][:2]]
        if self.multiple == 1:
            between = ((9 * stride + 1, 2 * stride - 1), (4 * stride - 1, 3 * stride + 1))
            sizes += [(max(h, self.least), max(w, self.least)) for h, w in between]
        return tuple(dict.fromkeys(sizes))

    @property
    def example(self) -> tuple[int, int]:
        """A size to capture the program at: with dynamic size one without coincidences."""
        stride = self.stride or self.multiple
        short = min(stride - 1, 2) if self.multiple == 1 else 0
        return (7 * stride - short, 6 * stride - short) if self.multiple else self.size

    @property
    def names(self) -> tuple[int | str, int | str]:
        """Height and width as a file states them: numbers, or names such as "16*height"."""
        if not self.multiple:
            return self.size
        if self.multiple == 1:
            end = f"_from_{self.least}" if self.least > 1 else ""
            return f"height{end}", f"width{end}"
        return f"{self.multiple}*height", f"{self.multiple}*width"

    @classmethod
    def stated(cls, size: tuple[int, int], metadata: Mapping[str, Any]) -> Axes:
        """The axes of a file for images of `size`, as its metadata say."""
        multiple, stride = (int(metadata.get(f"size_{k}") or 0) for k in ("multiple", "stride"))
        return cls(size, multiple, stride, int(metadata.get("size_least") or 1))

    def dynamic_shapes(self) -> Any:
        """For `torch.export.export` of a function of one tensor."""
        from torch.export import Dim

        axes: dict[int, Any] = {0: Dim("batch", min=1)}
        if self.multiple == 1:  # a named Dim would have to prove what padding does to every size
            axes |= {axis: Dim.AUTO(min=1) for axis in (2, 3)}
        elif self.multiple:
            for axis, name in ((2, "height"), (3, "width")):
                axes[axis] = self.multiple * Dim(name, min=LEAST)
        return (axes,)


def axes_of(model: nn.Module, input: InputSpec, spec: ExportSpec) -> Axes:
    """The axes that a spec asks for. Raises: ExportError if the model's own size does not fit.

    Any number of pixels is for models that say so (`any_size`): they pad in `forward`.
    """
    if not spec.dynamic_size:
        return Axes(input.size)
    multiple = _stride(model, input.in_chans)
    any_size = bool(getattr(model, "any_size", False))
    if any_size and not spec.whole_strides:
        return Axes(input.size, 1, multiple, getattr(model, "min_size", 1), unguarded=True)
    if any(side % multiple or side < LEAST * multiple for side in input.size):
        raise ExportError(
            f"with dynamic size, heights and widths are multiples of {multiple} pixels from "
            f"{LEAST * multiple} on; {input.size[0]} x {input.size[1]} is none: choose another "
            "--img-size"
        )
    return Axes(input.size, multiple, multiple, unguarded=any_size)


def _stride(model: Any, in_chans: int) -> int:
    """Pixels of the image for one of the last map, or for one token."""
    import torch

    reductions = [entry["reduction"] for entry in getattr(model, "feature_info", None) or ()]
    stride = max(reductions, default=_ANY)
    if reductions and hasattr(model, "forward_features"):
        side = 8 * stride
        single: Any = eval_copy(model).float()
        maps: list[int] = []  # heights of what the head pools: a pool may follow the last feature
        for module in single.modules():
            if isinstance(module, torch.nn.AdaptiveAvgPool2d):
                module.register_forward_pre_hook(lambda _, args: maps.append(args[0].shape[2]))
        with torch.no_grad():
            image = torch.zeros(1, in_chans, side, side)
            last = single.forward_features(image)
            single(image)
        if last.ndim == 4:
            maps.append(last.shape[2])
        stride = max(stride, side // min(maps, default=side))
    return stride


def at_size(input: InputSpec, size: tuple[int, int]) -> InputSpec:
    """The same preprocessing to another size."""
    return replace(input, size=size)


def eval_copy(model: nn.Module) -> nn.Module:
    """A copy of a model in eval mode on the CPU, without gradients: attention with a learned bias
    has another memory layout with them, which the exporters get wrong. The model is not touched.

    Raises: ExportError for one that cannot be copied.
    """
    try:
        copied = copy.deepcopy(model)
    except (RuntimeError, TypeError, AttributeError) as error:  # tensors that hooks compute
        why = str(error).partition(". ")[0][:150]
        raise ExportError(
            f"{type(model).__name__} cannot be copied, as export does: {why}. Make pruning or old "
            "weight norm permanent first (torch.nn.utils.prune.remove, remove_weight_norm)",
            code="not_copied",
        ) from error
    return copied.cpu().eval().requires_grad_(False)
