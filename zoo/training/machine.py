"""How this computer takes part in training: cores, worker processes, seeds. Results do not depend
on it beyond rounding.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..catalog.frozen import settle
from ..data.cores import available_cores
from ..errors import ConfigError

MOST_WORKERS = 8


@dataclass(frozen=True)
class Machine:
    """How this computer takes part; nothing here changes the result beyond rounding.

    Args:
        workers: processes that decode images ("stream" recipes); None: by the cores, see
            `workers_for`.
        cpu: stay off the GPU.
        micro_batch: images at once in a process; a larger share of a step is taken in parts, whose
            gradients are summed. 0: no limit. Batch norm sees the parts.
        threads: that compute; 0: OMP_NUM_THREADS, or the cores that are left by the workers.
    Raises: ConfigError for a value of another kind, or a negative number.
    """

    workers: int | None = None
    cpu: bool = False
    micro_batch: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        settle(self, "machine", "config")
        for name in ("workers", "micro_batch", "threads"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(
                    f"machine: {name} must not be negative; got {getattr(self, name)}"
                )

    def workers_for(self, device: torch.device, processes: int = 1) -> int:
        """Worker processes: beside a GPU up to 8; beside a CPU, which is busy computing, a quarter
        of the cores.

        Args:
            processes: of this training that share the cores.
        """
        if self.workers is not None:
            return self.workers
        cores = available_cores() // processes
        if device.type == "cpu":
            return min(MOST_WORKERS, cores // 4)
        return max(0, min(MOST_WORKERS, cores - 1))

    @contextlib.contextmanager
    def computing(self, device: torch.device, workers: int) -> Iterator[int]:
        """The number of threads that compute inside; as before afterwards."""
        before = torch.get_num_threads()
        wanted = self.threads or before
        if not self.threads and not os.environ.get("OMP_NUM_THREADS"):
            busy = workers if device.type == "cpu" else 0
            wanted = min(before, max(1, available_cores() - busy))
        torch.set_num_threads(wanted)
        try:
            yield wanted
        finally:
            torch.set_num_threads(before)


def seed_torch(seed: int, device: torch.device | None = None) -> None:
    """Seed the generators of the CPU and of one GPU.

    `torch.manual_seed` also seeds back ends that are not in use: for each of them it formats the
    stack and queues a call that is never made or freed (3 ms and some kB each time).
    """
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
