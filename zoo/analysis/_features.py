"""One pass over a loader that reduces the feature map of every unit on the fly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from ..errors import AnalysisError
from ..evaluation.checks import check_list
from ._hooks import device_of, outputs_to, read_images, tensors_in, unchanged
from ._maps import to_map
from ._places import check_order
from ._results import Moments
from ._units import Unit, check_names, find_units

OnStep = Callable[[int], None]


def ignore(_: int) -> None:
    """The default of `on_step`: nobody wants to know."""


def visit_maps(
    model: nn.Module,
    loader: Iterable[Any],
    visit: Callable[[Unit, Tensor], None],
    units: Sequence[Unit] | None = None,
    on_step: OnStep = ignore,
    ordered: bool = False,
) -> None:
    """Run the model over a loader and show `visit` the map (B, C, h, w) of every unit and batch.

    Args:
        visit: nothing is kept, so that what it reduces bounds the memory.
        units: default `find_units`, on the first image.
        on_step: called after every batch with the number of images so far.
        ordered: refuse tokens that are not in the order of the image (`check_order`).
    Raises: AnalysisError, see `to_map` and `read_images`.
    """
    device, dtype = device_of(model)
    modules = dict(model.named_modules())
    size: list[int] = [0, 0, 0]
    watched: dict[str, list[Unit]] = {}

    def look(name: str, inputs: tuple[Any, ...], output: Any) -> None:
        for unit in watched[name]:
            value = inputs if unit.entering else output
            of_images = (x for x in tensors_in(value) if x.ndim > 2 and len(x) == size[0])
            block = modules[unit.block or name]
            visit(unit, to_map(next(of_images, value), size[1:], unit.name, block))

    done = 0
    with unchanged(model), ExitStack() as stack:
        for images in read_images(loader):
            images = images.to(device, dtype, copy=True)
            if not done:
                for unit in _units(model, units, images):
                    watched.setdefault(unit.module, []).append(unit)
                places = {name: modules[name] for name in watched}
                entering = [name for name in watched if any(u.entering for u in watched[name])]
                if ordered:
                    check_order(model, places, entering, images[:1])
                stack.enter_context(outputs_to(places, look, entering))
            size[:] = len(images), *images.shape[2:]
            model(images)
            done += len(images)
            on_step(done)


def _units(model: nn.Module, units: Sequence[Unit] | None, images: Tensor) -> Sequence[Unit]:
    if units is None:
        return find_units(model, image=images)
    for unit in check_list("units", units):
        if not isinstance(unit, Unit):
            raise AnalysisError(
                f"units are what find_units finds; got {unit!r}: pass "
                f"find_units(model, names=[{unit!r}])"
            )
    check_names(model, [unit.module for unit in units])
    return units


def measure_maps(
    model: nn.Module,
    loader: Iterable[Any],
    reduce: Callable[[Tensor], Tensor],
    units: Sequence[Unit] | None = None,
    on_step: OnStep = ignore,
    ordered: bool = False,
) -> dict[Unit, Moments]:
    """Statistics over images of ``reduce(map)`` for every unit, in the order of execution.

    Args: reduce: (B, C, h, w) -> (B, ...), a value or vector for each image. Others: `visit_maps`.
    Raises: AnalysisError, see `visit_maps`; also if no unit ever ran.
    """
    found: dict[Unit, Moments] = {}

    def visit(unit: Unit, maps: Tensor) -> None:
        found.setdefault(unit, Moments()).add(reduce(maps))

    visit_maps(model, loader, visit, units, on_step, ordered)
    if not found:
        raise AnalysisError("none of the units ran in the forward pass; name other modules")
    return found
