"""Watching a model without changing it: hooks that always go, and a model that comes back as it
was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..catalog.weights_records import InputSpec
from ..data.preprocessing import preprocess
from ..errors import AnalysisError
from ..evaluation.checks import check_model
from ..evaluation.eval_mode import in_eval_mode
from ._answers import read_targets


@contextmanager
def unchanged(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode, without gradients; afterwards all is as before.

    Restored, also when the work inside is interrupted: the mode of every module, `requires_grad` of
    every parameter, and torch's random state on the CPU and, where it is in use, on CUDA.
    Parameters and buffers are not copied: what an analysis changes it puts through
    `torch.func.functional_call`.
    """
    check_model(model, AnalysisError)
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    state = torch.get_rng_state()
    try:
        with in_eval_mode(model), torch.no_grad():
            yield model
    finally:
        for parameter, required in trained:
            parameter.requires_grad_(required)
        torch.set_rng_state(state)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def calls_to(
    modules: Mapping[str, nn.Module],
    visit: Callable[[str, tuple[Any, ...], dict[str, Any], Any], Any],
    entering: Iterable[str] = (),
) -> Iterator[None]:
    """While it lasts, ``visit(name, args, kwargs, output)`` sees every call of the modules as it
    happens.

    What `visit` returns, unless None, takes the place of the output. Nothing is kept here, so a
    visit that reduces what it sees bounds the memory of the whole pass.

    Args: entering: modules whose arguments are read: of these it gets copies as they were before
        the call, for a module may overwrite what it takes.
    """
    handles = []
    taken: dict[str, list[Any]] = {name: [] for name in entering}

    def keep(name: str, _: nn.Module, args: Any, kwargs: Any) -> None:
        taken[name].append(_copied((args, kwargs), {}))

    def look(name: str, _: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        args, kwargs = taken[name].pop() if name in taken else (args, kwargs)
        return visit(name, args, kwargs, output)

    try:
        for name, module in modules.items():
            if name in taken:
                before = partial(keep, name)
                handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(partial(look, name), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def outputs_to(
    modules: Mapping[str, nn.Module],
    visit: Callable[[str, tuple[Any, ...], Any], Any],
    entering: Iterable[str] = (),
) -> AbstractContextManager[None]:
    """`calls_to` for a ``visit(name, args, output)``."""
    return calls_to(modules, lambda name, args, _, output: visit(name, args, output), entering)


def _copied(value: Any, known: dict[int, Tensor]) -> Any:
    """The same with copies of the tensors; what was one tensor is one again."""
    if isinstance(value, Tensor):
        return known.setdefault(id(value), value.clone())
    if isinstance(value, dict):
        return {key: _copied(part, known) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_copied(part, known) for part in value)
    return value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in what enters or leaves a module, in nested tuples, lists and dicts too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)


def first_tensor(value: Any, name: str) -> Tensor:
    """The tensor that a module returned, or the first of several. Raises: AnalysisError."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, tuple | list) and value:
        return first_tensor(value[0], name)
    raise AnalysisError(
        f"{name} passes on {type(value).__name__}, not a tensor; choose other modules"
    )


def check_finite(x: Tensor, name: str) -> Tensor:
    """`x`, if every value is finite. Raises: AnalysisError that names the layer."""
    if not bool(torch.isfinite(x).all()):
        raise AnalysisError(
            f"activations of {name} are not finite (NaN or infinite); look for the first such "
            "layer, and check weights and input",
            code="not_finite",
        )
    return x


def device_of(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where the model lives, and in which precision. Raises: AnalysisError for no model."""
    check_model(model, AnalysisError)
    for parameter in model.parameters():
        return parameter.device, parameter.dtype
    return torch.device("cpu"), torch.get_default_dtype()


@dataclass(frozen=True)
class ImageBatches:
    """Images of a data set as a model takes them, batch by batch, as often as one iterates.

    Args:
        dataset: a sequence of (uint8 array (H, W, 3), class number).
        spec: preprocessing.
        batch_size: images per batch; the last one may be smaller.
    Yields: float32 (B, C, H, W) and int64 (B,).
    """

    dataset: Sequence[tuple[Any, int]]
    spec: InputSpec
    batch_size: int = 64

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.dataset), self.batch_size):
            stop = min(start + self.batch_size, len(self.dataset))
            pairs = [self.dataset[i] for i in range(start, stop)]
            images = np.stack([preprocess(image, self.spec) for image, _ in pairs])
            yield torch.from_numpy(images), torch.tensor([int(target) for _, target in pairs])


def read_batches(
    loader: Iterable[Any], labelled: bool = False, soft: bool = False
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Images and targets of a loader that yields pairs, or images alone.

    Args:
        labelled: refuse batches without targets, and what is none (`read_targets`).
        soft: of `read_targets`.
    Raises: AnalysisError for an empty loader, or another form.
    """
    empty = True
    for batch in _opened(loader):
        pair = tuple(batch[:2]) if isinstance(batch, tuple | list) else (batch,)
        images, targets = (*pair, None, None)[:2]
        if not isinstance(images, Tensor) or images.ndim != 4:
            raise AnalysisError(
                "a loader yields images (B, C, H, W), or pairs of images and targets; got "
                f"{getattr(images, 'shape', type(images).__name__)}"
            )
        if labelled and targets is None:
            raise AnalysisError("this analysis needs targets: let the loader yield (images, them)")
        if len(images):
            empty = False
            yield images, read_targets(targets, len(images), soft) if labelled else targets
    if empty:
        raise AnalysisError(
            "the loader yields no images; if it is a generator it may be used up: pass a list or a "
            "DataLoader",
            code="empty_loader",
        )


def _opened(loader: Any) -> Iterator[Any]:
    try:
        return iter(loader)
    except TypeError:
        raise AnalysisError(
            f"a loader yields batches of images; got {type(loader).__name__}: pass a list of "
            "batches or a DataLoader"
        ) from None


def read_images(loader: Iterable[Any]) -> Iterator[Tensor]:
    """The images of a loader (`read_batches`), for measures over maps: all of one size.

    Raises: AnalysisError (code "sizes") for images of another size than the first.
    """
    size: tuple[int, ...] = ()
    for images, _ in read_batches(loader):
        size, found = size or tuple(images.shape[1:]), tuple(images.shape[1:])
        if found != size:
            raise AnalysisError(
                f"images of {_size(size)} and of {_size(found)}: their maps cannot be averaged; "
                "resize them to one size, or look at each size by itself",
                code="sizes",
            )
        yield images


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]} channels, {shape[1]} x {shape[2]} pixels"
