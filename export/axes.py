"""Which axes of an exported file may vary, and the sizes at which that is executed first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zoo import InputSpec
from zoo.errors import ExportError

from .spec import ExportSpec

if TYPE_CHECKING:
    from torch import nn

LEAST = 2  # smallest height and width in multiples: maps of one pixel take other branches
_ANY = 32  # multiple for modules that do not say how much they shrink an image


@dataclass(frozen=True)
class Axes:
    """The batch always varies; height and width do if `multiple` is not 0.

    Args:
        size: height and width in pixels that the model is made for, or that the file is fixed at.
        multiple: height and width may be any multiple of this many pixels, from two on.
    """

    size: tuple[int, int]
    multiple: int = 0

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """What is executed before the file gets its name: with dynamic size the model's own size
        and two others, prime multiples of the stride and not square.
        """
        if not self.multiple:
            return (self.size,)
        others = ((5, 7), (11, 3), (13, 5))
        sizes = [(h * self.multiple, w * self.multiple) for h, w in others]
        return (self.size, *[size for size in sizes if size != self.size][:2])

    @property
    def example(self) -> tuple[int, int]:
        """A size to capture the program at: with dynamic size one without coincidences."""
        return (7 * self.multiple, 6 * self.multiple) if self.multiple else self.size

    @property
    def names(self) -> tuple[int | str, int | str]:
        """Height and width as a file states them: numbers, or names such as "16*height"."""
        if not self.multiple:
            return self.size
        return f"{self.multiple}*height", f"{self.multiple}*width"

    def dynamic_shapes(self) -> Any:
        """For `torch.export.export` of a function of one tensor."""
        from torch.export import Dim

        axes = {0: Dim("batch", min=1)}
        if self.multiple:
            for axis, name in ((2, "height"), (3, "width")):
                axes[axis] = self.multiple * Dim(name, min=LEAST)
        return (axes,)


def axes_of(model: nn.Module, input: InputSpec, spec: ExportSpec) -> Axes:
    """The axes that a spec asks for. Raises: ExportError if the model's own size does not fit."""
    if not spec.dynamic_size:
        return Axes(input.size)
    multiple = _stride(model, input.in_chans)
    if any(side % multiple or side < LEAST * multiple for side in input.size):
        raise ExportError(
            f"with dynamic size, heights and widths are multiples of {multiple} pixels from "
            f"{LEAST * multiple} on; {input.size[0]} x {input.size[1]} is none: choose another "
            "--img-size"
        )
    return Axes(input.size, multiple)


def _stride(model: Any, in_chans: int) -> int:
    """Pixels of the image for one of the last map, or for one token."""
    import torch

    from .comparison.reference import eval_copy

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
