"""What runs inside a Ray cluster: an actor that holds a model, and its tasks that decode. Needs Ray
(extra `ray`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ray

from ...catalog.weights_records import InputSpec
from ...errors import ImageError
from ...files.provenance import versions
from .items import Item, Source
from .rows import PartFile, RowOptions, part_files
from .stores import is_remote
from .stream import Chunk, Images, prepare

if TYPE_CHECKING:
    from ..predictor import Predictor

DECODE_RETRIES = 2  # of an image whose process died, before the image is held to be why


@dataclass(frozen=True)
class ActorFacts:
    """Which model an actor holds, and where: a `ModelFacts`.

    Args:
        node, process: where it runs.
    """

    name: str
    input: InputSpec
    weights_sha256: str
    origin: Mapping[str, Any]
    versions: Mapping[str, str]
    node: str
    process: int

    @property
    def same_everywhere(self) -> dict[str, Any]:
        """What must not differ between actors."""
        found = {"model": self.name, "weights": self.weights_sha256, "input": self.input.to_dict()}
        return {**found, **self.origin, **self.versions}


class RowActor:
    """Holds a predictor and computes parts.

    Args:
        open_model: opens the predictor; called here, so that no model travels.
        folder: of the driver; relative names begin there.
        workers: chunks of images that are decoded at once.
    """

    def __init__(
        self,
        open_model: Callable[[], Predictor],
        options: RowOptions,
        folder: str,
        workers: int,
    ) -> None:
        self._open, self._options = open_model, options
        self._folder, self._workers = folder, workers
        self._source: Source | None = None
        with contextlib.suppress(OSError):  # not on this machine: names must be absolute
            os.chdir(folder)

    @cached_property
    def _predictor(self) -> Predictor:
        return self._open()

    def facts(self) -> ActorFacts:
        """Opens the model. Raises: what opening it raises."""
        found = self._predictor
        node = ray.get_runtime_context().get_node_id()
        described = (found.name, found.input, found.weights_sha256, dict(found.origin))
        return ActorFacts(*described, versions(), node, os.getpid())

    def part(self, number: int, place: Sequence[Any]) -> tuple[PartFile, ActorFacts]:
        """Computes part `number`.

        Args:
            place: the reference of the source, which is fetched once. (Among the arguments of the
                constructor it would be lost to an actor that is restarted.)
        Raises: as `answers`.
        """
        source = self._source = self._source or ray.get(place[0])
        decoder = TaskDecoder(self._workers, self._folder)
        found = part_files(
            self._predictor, source, number, number + 1, self._options, decoder=decoder
        )
        return next(found), self.facts()


class TaskDecoder:
    """Decodes in Ray's tasks, of one CPU each, wherever the cluster has one free."""

    chunk = 16

    def __init__(self, workers: int, folder: str) -> None:
        self._workers, self._folder = workers, folder

    def ahead(self, batch_size: int) -> int:
        return max(2, -(-2 * self._workers * self.chunk // batch_size))

    def submit(self, items: Sequence[Item], spec: InputSpec) -> Chunk:
        return _TaskChunk([self._absolute(item) for item in items], spec)

    def _absolute(self, item: Item) -> Item:
        if not item.file or is_remote(item.file):
            return item
        return replace(item, file=os.path.join(self._folder, item.file))

    def close(self) -> None:
        """Tasks that nobody waits for end by themselves."""


class _TaskChunk:
    """Images in one task. If its process dies, they are decoded one by one, each in a task: the
    image that ends these too gets an error instead of pixels.
    """

    def __init__(self, items: Sequence[Item], spec: InputSpec) -> None:
        self._items, self._spec = items, spec
        self._found = _DECODE.remote(items, spec)

    def result(self) -> Images:
        try:
            images: Images = ray.get(self._found)
            return images
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError:
            pass
        return [self._alone(item) for item in self._items]

    def _alone(self, item: Item) -> Any:
        try:
            return ray.get(_DECODE.options(max_retries=DECODE_RETRIES).remote([item], self._spec))[
                0
            ]
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError:
            return ImageError(
                f"{item.path[-100:]!r} ended the process that decodes it, "
                f"{DECODE_RETRIES + 1} times; leave it out",
                code="crashed_decoder",
            )


_DECODE = ray.remote(num_cpus=1, max_retries=0)(prepare)
