"""Answers in a stream: workers decode images while the model computes, and memory stays as it is
however many images there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...catalog.weights_records import InputSpec
from ...data.cores import available_cores
from ...data.image_listing import check_on_unreadable
from ...data.image_reading import UNREADABLE, decode
from ...data.preprocessing import preprocess
from ...errors import ConfigError, ImageError, ZooError
from .items import Item, Source

Array = np.ndarray[Any, Any]

PART_ROWS = 10_000  # of a file of rows; batches never cross its edge
_CHUNK = 8  # images that a worker takes at once
_AHEAD = 2  # batches that are decoded while one is computed


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
    Raises: ConfigError; ImageError and what else an image raises; InputError for an output that is
        not finite; DatasetError for a source that is damaged.
    """
    if batch_size < 1 or workers < 0:
        raise ConfigError(
            f"batch_size is at least 1 and workers at least 0; got {batch_size} and {workers}"
        )
    check_on_unreadable(on_unreadable)
    batches = _batches(source.items(start, stop), start, batch_size)
    for items, images in _prepared(batches, spec, workers or available_cores()):
        if on_unreadable == "stop":
            for image in images:
                if isinstance(image, ZooError):
                    raise image
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


def _batches(items: Iterator[Item], start: int, size: int) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for number, item in enumerate(items, start):
        if batch and number % PART_ROWS % size == 0:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _prepared(
    batches: Iterator[list[Item]], spec: InputSpec, workers: int
) -> Iterator[tuple[list[Item], list[Array | ZooError]]]:
    """Batches with their images ready for the model, or with the error of an image."""
    pool = ThreadPoolExecutor(workers, "decode")
    waiting: deque[tuple[list[Item], list[Future[list[Array | ZooError]]]]] = deque()
    try:
        for batch in batches:
            chunks = [batch[i : i + _CHUNK] for i in range(0, len(batch), _CHUNK)]
            waiting.append((batch, [pool.submit(_prepare, chunk, spec) for chunk in chunks]))
            if len(waiting) > _AHEAD:
                yield _collect(*waiting.popleft())
        while waiting:
            yield _collect(*waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(
    batch: list[Item], futures: Sequence[Future[list[Array | ZooError]]]
) -> tuple[list[Item], list[Array | ZooError]]:
    return batch, [image for future in futures for image in future.result()]


def _prepare(items: Sequence[Item], spec: InputSpec) -> list[Array | ZooError]:
    found: list[Array | ZooError] = []
    for item in items:
        try:
            found.append(preprocess(item.file or _decoded(item), spec))
        except UNREADABLE as error:
            found.append(error)
    return found


def _decoded(item: Item) -> Any:
    if not item.data:
        raise ImageError(f"{item.path[-100:]!r} holds no bytes of an image", code="empty_image")
    return decode(item.data, repr(item.path[-100:]))
