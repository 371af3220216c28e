"""Answers in a stream: workers decode images while the model computes, and memory stays as it is
however many images there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ...catalog.weights_records import InputSpec
from ...data.cores import available_cores
from ...data.image_listing import check_on_unreadable, ending
from ...data.image_reading import UNREADABLE, decode
from ...data.preprocessing import preprocess
from ...errors import ImageError, ZooError
from ..checks import check_count
from .items import Item, Source
from .stores import is_remote, read_place

Array = np.ndarray[Any, Any]

PART_ROWS = 10_000  # of a file of rows; batches never cross its edge
Images = list[Array | ZooError]  # ready for the model, or why one is not


@dataclass(frozen=True)
class Answer:
    """What a model returned for one image of a source.

    Args:
        path: of the image.
        values: one row of the model's output; None if the image cannot be read.
        error: why it cannot; "" otherwise.
    """

    path: str
    values: Array | None
    error: str = ""


class Chunk(Protocol):
    """Images that are being decoded."""

    def result(self) -> Images:
        """Waits for them."""


class Decoder(Protocol):
    """Decodes images beside the model.

    Args:
        chunk: images that one worker takes at once.
    """

    chunk: int

    def ahead(self, batch_size: int) -> int:
        """Batches that are decoded while one is computed."""

    def submit(self, items: Sequence[Item], spec: InputSpec) -> Chunk:
        """Begin with these."""

    def close(self) -> None:
        """Begin no more."""


class ThreadDecoder:
    """Threads of this process.

    Args:
        workers: 0: as many as there are cores.
        read: what each does with its images; without it, `prepare`.
    """

    chunk = 8

    def __init__(
        self,
        workers: int = 0,
        read: Callable[[Sequence[Item], InputSpec], Images] | None = None,
    ) -> None:
        self._read = read or prepare
        self._workers = check_count("workers", workers, 0) or available_cores()
        self._pool = ThreadPoolExecutor(self._workers, "decode")

    def ahead(self, batch_size: int) -> int:
        return max(2, -(-2 * self._workers * self.chunk // batch_size))

    def submit(self, items: Sequence[Item], spec: InputSpec) -> Chunk:
        return self._pool.submit(self._read, items, spec)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def answers(
    outputs: Callable[[Array, Sequence[str]], Array],
    spec: InputSpec,
    source: Source,
    *,
    batch_size: int = 32,
    workers: int = 0,
    on_unreadable: str = "stop",
    start: int = 0,
    stop: int | None = None,
    decoder: Decoder | None = None,
) -> Iterator[Answer]:
    """One answer for every image of a source, in its order.

    The same image stands in the same batch whatever `start` is, so that rows are equal to the bit
    however the work was divided.

    Args:
        outputs: what a model returns for a batch (B, C, H, W), given the names of its images.
        spec: how images are prepared for it.
        batch_size: images that the model sees at once.
        workers: threads that decode; 0: as many as there are cores.
        on_unreadable: "stop" raises at such an image, "skip" yields an answer with its error.
        start, stop: numbers of images; `start` is the first of a part.
        decoder: who decodes, instead of `workers` threads; it is closed at the end.
    Raises: ConfigError; ImageError and what else an image raises; InputError for an output that is
        not finite; DatasetError for a source that is damaged.
    """
    check_count("batch_size", batch_size)
    check_on_unreadable(on_unreadable)
    decoder = decoder or ThreadDecoder(workers)
    batches = batches_of(source.items(start, stop), start, batch_size)
    for items, images in decoded(batches, spec, decoder, batch_size):
        if on_unreadable == "stop":
            for image in images:
                if isinstance(image, ZooError):
                    raise ending(image)
        good = [image for image in images if not isinstance(image, ZooError)]
        named = [
            item.path
            for item, image in zip(items, images, strict=True)
            if not isinstance(image, ZooError)
        ]
        rows = iter(outputs(np.stack(good), named) if good else ())
        for item, image in zip(items, images, strict=True):
            if isinstance(image, ZooError):
                yield Answer(item.path, None, str(image))
            else:
                yield Answer(item.path, next(rows))


def batches_of(items: Iterator[Item], start: int, size: int) -> Iterator[list[Item]]:
    """Items in batches that never cross the edge of a part. Args: start: number of the first."""
    batch: list[Item] = []
    for number, item in enumerate(items, start):
        if batch and number % PART_ROWS % size == 0:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def decoded(
    batches: Iterator[list[Item]], spec: InputSpec, decoder: Decoder, batch_size: int
) -> Iterator[tuple[list[Item], Images]]:
    """Batches with their images ready for the model, or with the error of an image."""
    waiting: deque[tuple[list[Item], list[Chunk]]] = deque()
    size, ahead = decoder.chunk, decoder.ahead(batch_size)
    try:
        for batch in batches:
            chunks = [batch[i : i + size] for i in range(0, len(batch), size)]
            waiting.append((batch, [decoder.submit(chunk, spec) for chunk in chunks]))
            if len(waiting) > ahead:
                yield _collect(*waiting.popleft())
        while waiting:
            yield _collect(*waiting.popleft())
    finally:
        decoder.close()


def _collect(batch: list[Item], chunks: Sequence[Chunk]) -> tuple[list[Item], Images]:
    return batch, [image for chunk in chunks for image in chunk.result()]


def prepare(items: Sequence[Item], spec: InputSpec) -> Images:
    """Images ready for a model, each (C, H, W), or the error of one that cannot be read."""
    found: Images = []
    for item in items:
        try:
            found.append(preprocess(image_of(item), spec))
        except UNREADABLE as error:
            found.append(error)
    return found


def image_of(item: Item) -> Any:
    """The path of an image, or the image itself where it has no path on this machine.

    Raises: ImageError; as `read_place`.
    """
    if item.file and not is_remote(item.file):
        return item.file
    data = read_place(item.file, "image") if item.file else item.data
    if not data:
        raise ImageError(f"{item.path[-100:]!r} holds no bytes of an image", code="empty_image")
    return decode(data, repr(item.path[-100:]))
