"""Which images go into which step: a pure function of seed, epoch and step.

Nothing random is carried from step to step, so that a run that is continued, or spread over more
processes, takes the same steps. No torch.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError

Array = np.ndarray[Any, Any]


def derive_seed(*path: int) -> int:
    """A seed of 63 bits for a place such as (seed, epoch, step): different places, unrelated
    seeds.
    """
    state = np.random.SeedSequence(path).generate_state(1, np.uint64)
    return int(state[0]) >> 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of all epochs.

    Args:
        count: training images.
        batch_size: images per step over all processes.
        repeats: augmented copies of an image in an epoch; an epoch then takes count / repeats
            images, all copies of one in the same step if the batch allows.
        world: processes; every one gets equally many images of a step.
        seed: of the order.
    Raises: ConfigError if there are not two images for each process.
    """

    count: int
    batch_size: int
    repeats: int = 1
    world: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.count, self.batch_size) < 2 * self.world:
            raise ConfigError(
                f"{self.count} training images in steps of {self.batch_size} are too few for "
                f"{self.world} processes: each needs two images in every step"
            )

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return len(self._sizes())

    @property
    def images(self) -> int:
        """Images in an epoch: the last step is cut to a multiple of two for each process."""
        return sum(self._sizes())

    def _sizes(self) -> list[int]:
        unit = 2 * self.world
        full = self.batch_size // unit * unit
        whole, rest = divmod(self.count, full)
        last = rest // unit * unit
        return [full] * whole + ([last] if last else [])

    def epoch(self, epoch: int) -> list[Array]:
        """The steps of an epoch. Returns: arrays (images, 2) of image number and copy number."""
        generator = np.random.default_rng(derive_seed(self.seed, 0, epoch))
        order = generator.permutation(self.count)
        images = np.repeat(order, self.repeats)[: self.count]
        copies = np.tile(np.arange(self.repeats), self.count)[: self.count]
        pairs = np.stack([images, copies], axis=1)
        bounds = np.cumsum([0, *self._sizes()])
        return [pairs[start:end] for start, end in itertools.pairwise(bounds)]


def take_share(count: int, rank: int, world: int) -> slice:
    """Which of `count` items belong to a process: every world-th."""
    return slice(rank, count, world)


def keep_fraction(targets: Array, fraction: float) -> Array:
    """ConViT's sample-efficiency protocol: the first int(fraction * n) images of every class.

    d'Ascoli et al., arXiv:2103.10697, section 4; images are in the order of the data set, which for
    folders is that of the sorted names. Returns: their numbers, ascending.
    Raises: ConfigError for a fraction outside (0, 1], or one that leaves a class without images.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"the fraction of images must be in (0, 1]; got {fraction}")
    kept = []
    for number in np.unique(targets):
        members = np.flatnonzero(targets == number)
        few = members[: int(fraction * len(members) + 1e-9)]
        if len(few) == 0:
            raise ConfigError(
                f"a fraction of {fraction} leaves none of the {len(members)} images of class "
                f"{number}; take at least {1 / len(members):.3g}"
            )
        kept.append(few)
    return np.sort(np.concatenate(kept))


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's and numpy's global generators seeded inside, and as before afterwards."""
    outer, outer_numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(outer)
        np.random.set_state(outer_numpy)
